//! From what SQLite reports to the one typed error.

use terrace_tier::{Error, ErrorKind};

/// The typed error for `error`; `write` tells whether something was being changed.
pub(crate) fn typed(error: sqlx::Error, write: bool) -> Error {
    let code = match &error {
        sqlx::Error::Database(report) => report.code().and_then(|code| code.parse::<i32>().ok()),
        _ => None,
    };
    let (kind, message) = match (code, &error) {
        (Some(code), _) => by_code(code),
        (None, sqlx::Error::WorkerCrashed) if write => {
            (ErrorKind::Unknown, "the connection's thread ended during a write")
        }
        (None, sqlx::Error::WorkerCrashed) => (ErrorKind::Unavailable, "the connection's thread ended"),
        _ => (ErrorKind::Backend, "the client failed"),
    };
    Error::new(kind, message).with_source(error)
}

/// By the primary result code: the lower byte of an extended one.
fn by_code(code: i32) -> (ErrorKind, &'static str) {
    match code & 0xff {
        3 | 23 => (ErrorKind::Denied, "the file may not be used: check its owner and mode"),
        5 | 6 => (ErrorKind::Busy, "another program holds the file's lock: end it, and nothing was done"),
        8 => (
            ErrorKind::ReadOnly,
            "the file takes no writes: check its mode, its folder's and the file system",
        ),
        13 => (ErrorKind::ReadOnly, "the disk is full: free some space"),
        14 => (ErrorKind::Unavailable, "the file cannot be opened: check its folder, owner and mode"),
        18 => (ErrorKind::TooLarge, "the value is larger than SQLite takes"),
        26 => (ErrorKind::Config, "the file is no SQLite database: give another path"),
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
            // SQLITE_READONLY_DIRECTORY and SQLITE_IOERR_WRITE: extended codes.
            (8 | 6 << 8, ErrorKind::ReadOnly),
            (10 | 3 << 8, ErrorKind::Backend),
            (13, ErrorKind::ReadOnly),
            (14, ErrorKind::Unavailable),
            (26, ErrorKind::Config),
        ];
        for (code, kind) in kinds {
            assert_eq!(by_code(code).0, kind, "{code}");
        }
    }
}
