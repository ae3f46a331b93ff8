//! Typed errors for what the client and the server report.

use sqlx::error::DatabaseError;
use terrace_tier::{Error, ErrorKind};

/// What the tier did when an error came. This decides what is known of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It got a connection: nothing was sent.
    Connect,
    /// It ran a statement that changes nothing.
    Read,
    /// It ran a statement that changes data, which may or may not have happened.
    Write,
}

/// The code that the functions raise for a namespace without a row.
const UNKNOWN_NAMESPACE: &str = "TR001";

/// The typed error for `error`.
pub(crate) fn typed(error: sqlx::Error, phase: Phase) -> Error {
    if let sqlx::Error::Database(report) = &error {
        let (kind, message) = by_code(&code(report.as_ref()), phase);
        return Error::new(kind, message).with_source(error);
    }
    let (kind, message) = match (&error, phase) {
        (sqlx::Error::PoolTimedOut, _) => (ErrorKind::Timeout, "no connection was free in time"),
        (sqlx::Error::PoolClosed, _) => (ErrorKind::Closed, "the connection pool was closed"),
        (sqlx::Error::Configuration(_), _) => {
            (ErrorKind::Config, "the connection settings cannot be used: check the TLS files and options")
        }
        (sqlx::Error::Tls(_), _) => (ErrorKind::Unavailable, "the TLS connection failed"),
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), Phase::Connect) => {
            (ErrorKind::Unavailable, "the server cannot be reached")
        }
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), Phase::Read) => {
            (ErrorKind::Unavailable, "the connection broke")
        }
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), Phase::Write) => {
            (ErrorKind::Unknown, "the connection broke before the reply to a write")
        }
        _ => (ErrorKind::Backend, "the Postgres client failed"),
    };
    Error::new(kind, message).with_source(error)
}

/// The error for a request without a reply.
pub(crate) fn missing_reply() -> Error {
    Error::new(ErrorKind::Backend, "the server's reply to a request is missing")
}

/// Whether the connection cannot be used again after `error`.
pub(crate) fn breaks_connection(error: &sqlx::Error) -> bool {
    match error {
        // The prepared statement is unknown, its result type changed, or the server ends the session.
        sqlx::Error::Database(report) => {
            matches!(
                code(report.as_ref()).as_str(),
                "26000" | "0A000" | "57P01" | "57P02" | "57P03" | "57P05"
            )
        }
        _ => true,
    }
}

/// Whether `error` says that a table, function or row of the library is missing.
pub(crate) fn misses_schema(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(report) => {
            matches!(code(report.as_ref()).as_str(), "42P01" | "3F000" | "42883" | UNKNOWN_NAMESPACE)
        }
        _ => false,
    }
}

fn code(report: &dyn DatabaseError) -> String {
    report.code().map(|code| code.into_owned()).unwrap_or_default()
}

fn by_code(code: &str, phase: Phase) -> (ErrorKind, &'static str) {
    match code {
        "42501" => (
            ErrorKind::Denied,
            "the role lacks a right: start the application once as a role with CREATE on the database, \
             then grant this role USAGE on the schema, EXECUTE on its functions, and SELECT, INSERT, UPDATE \
             and DELETE on its tables",
        ),
        _ if code.starts_with("28") => {
            (ErrorKind::Denied, "the server refused the user or the password: check them in the URL")
        }
        "3D000" => {
            (ErrorKind::Config, "the database of the URL does not exist: create it, or change the URL")
        }
        "25006" => (
            ErrorKind::ReadOnly,
            "the server takes no writes (a standby, or default_transaction_read_only): connect to the primary",
        ),
        "53100" => (ErrorKind::ReadOnly, "the server's disk is full: free some space"),
        "57014" => (ErrorKind::Timeout, "the statement was cancelled by its timeout or by an operator"),
        "42P01" | "3F000" | "42883" => (
            ErrorKind::Config,
            "a part of the library's schema is missing, and the next call makes it again: check the schema's \
             name, and that no other program drops or moves it",
        ),
        UNKNOWN_NAMESPACE => (
            ErrorKind::Unavailable,
            "the row of the namespace is missing in the database: the next call makes it again",
        ),
        "53300" => (
            ErrorKind::Unavailable,
            "the server has no connection left: raise max_connections, or lower the size of the pool",
        ),
        // The whole statement was rolled back: nothing happened.
        "40001" | "40P01" | "55P03" => {
            (ErrorKind::Busy, "the statement conflicted with another one and was rolled back")
        }
        "57P03" => (ErrorKind::Unavailable, "the server is starting up or shutting down"),
        _ if code.starts_with("08") || code.starts_with("57P") => match phase {
            Phase::Write => (ErrorKind::Unknown, "the session ended before the reply to a write"),
            _ => (ErrorKind::Unavailable, "the server ended the session"),
        },
        "53200" => (ErrorKind::Busy, "the server is out of memory"),
        "54000" => (ErrorKind::TooLarge, "the statement is larger than the server accepts"),
        _ => (ErrorKind::Backend, "the server reported an error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_leaves_only_a_write_unknown() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert_eq!(typed(broken(), Phase::Connect).kind(), ErrorKind::Unavailable);
        assert_eq!(typed(broken(), Phase::Read).kind(), ErrorKind::Unavailable);
        assert_eq!(typed(broken(), Phase::Write).kind(), ErrorKind::Unknown);
        assert!(breaks_connection(&broken()));
    }

    #[test]
    fn codes_of_the_server_have_kinds() {
        let kinds = [
            ("28P01", ErrorKind::Denied),
            ("28000", ErrorKind::Denied),
            ("42501", ErrorKind::Denied),
            ("25006", ErrorKind::ReadOnly),
            ("53100", ErrorKind::ReadOnly),
            ("57014", ErrorKind::Timeout),
            ("42P01", ErrorKind::Config),
            ("57P01", ErrorKind::Unknown),
            ("40P01", ErrorKind::Busy),
            ("22P02", ErrorKind::Backend),
        ];
        for (code, kind) in kinds {
            assert_eq!(by_code(code, Phase::Write).0, kind, "{code}");
        }
        assert_eq!(by_code("57P01", Phase::Read).0, ErrorKind::Unavailable);
    }
}
