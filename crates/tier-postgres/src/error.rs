//! From what the client reports to the one typed error.

use sqlx::error::DatabaseError;
use terrace_tier::{Error, ErrorKind};

/// What was under way when an error came: it decides what is known of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// Getting a connection: nothing was sent.
    Connect,
    /// A statement that changes nothing.
    Read,
    /// A statement that changes something.
    Write,
}

/// The error of a namespace that the database does not know (any more).
const UNKNOWN_SPACE: &str = "TR001";

/// The typed error for `error`.
pub(crate) fn typed(error: sqlx::Error, during: During) -> Error {
    if let sqlx::Error::Database(report) = &error {
        let (kind, message) = by_code(&code(report.as_ref()), during);
        return Error::new(kind, message).with_source(error);
    }
    let (kind, message) = match (&error, during) {
        (sqlx::Error::PoolTimedOut, _) => (ErrorKind::Timeout, "no connection was free in time"),
        (sqlx::Error::PoolClosed, _) => (ErrorKind::Closed, "the connection pool was closed"),
        (sqlx::Error::Configuration(_), _) => {
            (ErrorKind::Config, "the connection settings cannot be used (see the TLS files and options)")
        }
        (sqlx::Error::Tls(_), _) => (ErrorKind::Unavailable, "no TLS connection could be made"),
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), During::Connect) => {
            (ErrorKind::Unavailable, "cannot connect")
        }
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), During::Read) => {
            (ErrorKind::Unavailable, "the connection broke")
        }
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), During::Write) => {
            (ErrorKind::Unknown, "the connection broke before the answer to a write")
        }
        _ => (ErrorKind::Backend, "the client failed"),
    };
    Error::new(kind, message).with_source(error)
}

/// Whether the connection is of no more use after `error`.
pub(crate) fn breaks_connection(error: &sqlx::Error) -> bool {
    match error {
        // A forgotten prepared statement, a changed result type, a session that is being ended.
        sqlx::Error::Database(report) => {
            matches!(
                code(report.as_ref()).as_str(),
                "26000" | "0A000" | "57P01" | "57P02" | "57P03" | "57P05"
            )
        }
        _ => true,
    }
}

/// Whether `error` says that the library's tables, functions or rows are not there.
pub(crate) fn misses_schema(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(report) => {
            matches!(code(report.as_ref()).as_str(), "42P01" | "3F000" | "42883" | UNKNOWN_SPACE)
        }
        _ => false,
    }
}

fn code(report: &dyn DatabaseError) -> String {
    report.code().map(|code| code.into_owned()).unwrap_or_default()
}

fn by_code(code: &str, during: During) -> (ErrorKind, &'static str) {
    match code {
        "42501" => (
            ErrorKind::Denied,
            "the role lacks a right: let a role with CREATE on the database start the application once, \
             then grant this one USAGE on the schema, EXECUTE on its functions and SELECT, INSERT, UPDATE \
             and DELETE on its tables",
        ),
        _ if code.starts_with("28") => {
            (ErrorKind::Denied, "the server refused the user or the password: check them in the URL")
        }
        "3D000" => (ErrorKind::Config, "the database of the URL does not exist: create it or change the URL"),
        "25006" => (
            ErrorKind::ReadOnly,
            "the server takes no writes (a standby, or default_transaction_read_only): connect to the primary",
        ),
        "53100" => (ErrorKind::ReadOnly, "the server's disk is full: free some space"),
        "57014" => (ErrorKind::Timeout, "the statement was cancelled, by its timeout or by an operator"),
        "42P01" | "3F000" | "42883" => (
            ErrorKind::Config,
            "the library's schema is not as it left it: it is prepared again with the next call; \
             check the schema's name and that nobody drops or moves it",
        ),
        UNKNOWN_SPACE => (
            ErrorKind::Unavailable,
            "the namespace is not known to the database any more: it is made again with the next call",
        ),
        "53300" => (
            ErrorKind::Unavailable,
            "the server has no connection left: raise max_connections or lower the pool",
        ),
        // Rolled back as a whole: nothing was done.
        "40001" | "40P01" | "55P03" => {
            (ErrorKind::Busy, "the statement lost against others and was rolled back")
        }
        "57P03" => (ErrorKind::Unavailable, "the server is starting up or shutting down"),
        _ if code.starts_with("08") || code.starts_with("57P") => match during {
            During::Write => (ErrorKind::Unknown, "the session ended before the answer to a write"),
            _ => (ErrorKind::Unavailable, "the session was ended"),
        },
        "53200" => (ErrorKind::Busy, "the server is out of memory"),
        "54000" => (ErrorKind::TooLarge, "the statement is larger than the server takes"),
        _ => (ErrorKind::Backend, "the server reported an error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_leaves_only_a_write_unknown() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert_eq!(typed(broken(), During::Connect).kind(), ErrorKind::Unavailable);
        assert_eq!(typed(broken(), During::Read).kind(), ErrorKind::Unavailable);
        assert_eq!(typed(broken(), During::Write).kind(), ErrorKind::Unknown);
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
            assert_eq!(by_code(code, During::Write).0, kind, "{code}");
        }
        assert_eq!(by_code("57P01", During::Read).0, ErrorKind::Unavailable);
    }
}
