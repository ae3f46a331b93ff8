//! Turns the errors of SQLite into the typed error of the library.

use terrace_tier::{Error, ErrorKind};

/// The short name of the tier in stats, logs and errors.
pub(crate) const NAME: &str = "sqlite";

/// A result of the database client.
pub(crate) type SqlResult<T> = std::result::Result<T, sqlx::Error>;

/// What was being done when an error occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// Nothing that a caller could lose was being changed.
    Read,
    /// Cells or an epoch were being changed.
    Write,
}

/// The error for an operation without a reply.
pub(crate) fn missing_reply() -> Error {
    Error::new(ErrorKind::Backend, "an operation got no reply")
}

/// Whether SQLite refused a statement because of its key or value: one that is too large, or against a
/// constraint or trigger that another program added.
pub(crate) fn is_of_one_statement(error: &sqlx::Error) -> bool {
    code_of(error).is_some_and(|code| matches!(code & 0xff, 18 | 19))
}

fn code_of(error: &sqlx::Error) -> Option<i32> {
    match error {
        sqlx::Error::Database(report) => report.code().and_then(|code| code.parse().ok()),
        _ => None,
    }
}

/// The typed error for `error`.
pub(crate) fn typed(error: sqlx::Error, during: During) -> Error {
    let (kind, message) = match (code_of(&error), &error) {
        (Some(code), _) => by_code(code),
        (None, sqlx::Error::WorkerCrashed) if during == During::Write => {
            (ErrorKind::Unknown, "the connection's thread ended during a write")
        }
        (None, sqlx::Error::WorkerCrashed) => (ErrorKind::Unavailable, "the connection's thread ended"),
        _ => (ErrorKind::Backend, "the client failed"),
    };
    Error::new(kind, message).with_source(error)
}

/// The kind and the message for a result code; its lower byte is the primary code.
fn by_code(code: i32) -> (ErrorKind, &'static str) {
    // Extended codes of SQLITE_IOERR, where it could not write, sync or enlarge a file.
    const CANNOT_GROW: [i32; 4] = [10 | 3 << 8, 10 | 4 << 8, 10 | 12 << 8, 10 | 19 << 8];
    if CANNOT_GROW.contains(&code) {
        let message = "a file cannot grow: free space on the disk, and check its quota and limits";
        return (ErrorKind::ReadOnly, message);
    }
    match code & 0xff {
        3 | 23 => (ErrorKind::Denied, "this process may not use the file: check its owner and mode"),
        5 | 6 => {
            (ErrorKind::Busy, "another program holds the file's lock: end that program; nothing was changed")
        }
        8 => (
            ErrorKind::ReadOnly,
            "the file cannot be written: check its mode, the mode of its folder and the file system",
        ),
        13 => (ErrorKind::ReadOnly, "the disk is full: free some space"),
        14 => (ErrorKind::Unavailable, "the file cannot be opened: check its folder, owner and mode"),
        18 => (ErrorKind::TooLarge, "the value is larger than SQLite accepts"),
        26 => (ErrorKind::Config, "the file is not an SQLite database: give another path"),
        11 => (ErrorKind::Backend, "the file is damaged: restore it from a copy"),
        10 => (ErrorKind::Backend, "the file system failed"),
        _ => (ErrorKind::Backend, "SQLite reported an error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_have_kinds() {
        let kinds = [
            (5, ErrorKind::Busy),
            (8, ErrorKind::ReadOnly),
            // SQLITE_READONLY_DIRECTORY, SQLITE_IOERR_WRITE, SQLITE_IOERR_SHORT_READ: extended codes.
            (8 | 6 << 8, ErrorKind::ReadOnly),
            (10 | 3 << 8, ErrorKind::ReadOnly),
            (10 | 2 << 8, ErrorKind::Backend),
            (13, ErrorKind::ReadOnly),
            (14, ErrorKind::Unavailable),
            (26, ErrorKind::Config),
        ];
        for (code, kind) in kinds {
            assert_eq!(by_code(code).0, kind, "{code}");
        }
    }
}
