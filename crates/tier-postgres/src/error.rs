//! Typed errors for what the client and the server report.

use std::fmt;

use sqlx::error::DatabaseError;
use terrace_tier::{Error, ErrorKind, Finding, FindingTopic, Secrets, direct_write_refused, front_lost};

/// The short name of the tier in stats, logs and errors.
pub(crate) const NAME: &str = "postgres";

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
/// The code that the functions raise for a direct write while a front holds the namespace.
const HELD_BY_FRONT: &str = "TR002";
/// The code that the functions raise for a write behind of another term.
const OTHER_TERM: &str = "TR003";

/// The typed error for `error`. Our passwords are taken out of its text: servers, poolers and drivers quote
/// what they were sent.
pub(crate) fn typed(error: sqlx::Error, phase: Phase, secrets: &Secrets) -> Error {
    let foreign = ForeignError(secrets.redact(&error.to_string()).into_owned());
    if let sqlx::Error::Database(report) = &error {
        match code(report.as_ref()).as_str() {
            HELD_BY_FRONT => return direct_write_refused(),
            OTHER_TERM => return front_lost(),
            _ => {}
        }
        if phase == Phase::Connect && report.message().contains("certificate") {
            return wrong_certificate().into_error().with_source(foreign);
        }
        return by_code(&code(report.as_ref()), phase).into_error().with_source(foreign);
    }
    by_client(&error, phase).into_error().with_source(foreign)
}

/// The error for a row that cannot be read. Its text is the client's own and holds no answer of a server.
pub(crate) fn unreadable(error: sqlx::Error, phase: Phase) -> Error {
    typed(error, phase, &Secrets::default())
}

/// The text of an error of the client or the server.
#[derive(Debug)]
struct ForeignError(String);

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ForeignError {}

/// What an error means.
enum Meaning {
    /// One call failed.
    Call(ErrorKind, &'static str),
    /// The server keeps the cache from working, by the given cause and with the given cure.
    Server(ErrorKind, FindingTopic, &'static str, &'static str),
}

impl Meaning {
    fn into_error(self) -> Error {
        match self {
            Self::Call(kind, message) => match cure_of(kind) {
                Some(cure) => Error::new(kind, message).with_cure(cure),
                None => Error::new(kind, message),
            },
            Self::Server(kind, topic, cause, cure) => Finding::stops(topic, cause, cure).into_error(kind),
        }
    }
}

/// What to do about an error whose message does not say it.
const fn cure_of(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Unavailable => Some("check that the server runs, and that this host reaches it"),
        ErrorKind::Unknown => Some("the write may have happened: read the value before you try again"),
        ErrorKind::Timeout => Some("give the pool more connections, or the server less load"),
        _ => None,
    }
}

fn wrong_certificate() -> Meaning {
    Meaning::Server(
        ErrorKind::Config,
        FindingTopic::Certificate,
        "the server's certificate is refused, or the server refuses this client's",
        "give the URL the right sslrootcert, sslcert and sslkey, and the host name of the certificate",
    )
}

/// The meaning of an error that is not the server's answer to a statement.
fn by_client(error: &sqlx::Error, phase: Phase) -> Meaning {
    use Meaning::{Call, Server};
    let text = error.to_string();
    if phase == Phase::Connect && (text.contains("certificate") || text.contains("InvalidCertificate")) {
        return wrong_certificate();
    }
    match (error, phase) {
        (sqlx::Error::PoolTimedOut, _) => Call(ErrorKind::Timeout, "no connection was free in time"),
        (sqlx::Error::PoolClosed, _) => Call(ErrorKind::Closed, "the connection pool was closed"),
        (sqlx::Error::Configuration(_), _) => {
            Call(ErrorKind::Config, "the connection settings cannot be used: check the TLS files and options")
        }
        (sqlx::Error::Tls(_), Phase::Connect) if text.contains("does not support TLS") => Server(
            ErrorKind::Config,
            FindingTopic::Protocol,
            "the server has no TLS",
            "turn TLS on at the server, or leave out sslmode=require where the network is private",
        ),
        (sqlx::Error::Tls(_), _) => Call(ErrorKind::Unavailable, "the TLS connection failed"),
        (sqlx::Error::Protocol(_), Phase::Connect) => Server(
            ErrorKind::Config,
            FindingTopic::Protocol,
            "what answers at this address does not speak the protocol of Postgres",
            "check the host and the port",
        ),
        (sqlx::Error::Io(_), Phase::Connect) => Call(ErrorKind::Unavailable, "the server cannot be reached"),
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), Phase::Read) => {
            Call(ErrorKind::Unavailable, "the connection broke")
        }
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), Phase::Write) => {
            Call(ErrorKind::Unknown, "the connection broke before the reply to a write")
        }
        _ => Call(ErrorKind::Backend, "the Postgres client failed"),
    }
}

/// The error for a request without a reply.
pub(crate) fn missing_reply() -> Error {
    Error::new(ErrorKind::Backend, "the server's reply to a request is missing")
}

/// What becomes of a connection after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Usable,
    /// It cannot be used again.
    Broken,
    /// The server takes no writes: another server may be the primary by now.
    ReadOnly,
}

impl ConnectionState {
    pub(crate) fn after<T>(result: &Result<T, sqlx::Error>) -> Self {
        match result {
            Ok(_) => Self::Usable,
            Err(sqlx::Error::Database(report)) => Self::after_code(&code(report.as_ref())),
            Err(_) => Self::Broken,
        }
    }

    fn after_code(code: &str) -> Self {
        match code {
            // The prepared statement is unknown or exists already, its result type changed, or the server
            // ends the session.
            "26000" | "42P05" | "0A000" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Self::Broken,
            code if code.starts_with("08") => Self::Broken,
            "25006" => Self::ReadOnly,
            _ => Self::Usable,
        }
    }
}

/// Whether a statement of several keys may have failed because of one of them: a value that the server refuses,
/// a lock that was not free, a trigger of the application's. The server has rolled it back then.
pub(crate) fn may_be_of_one_key(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(report) = error else { return false };
    let code = code(report.as_ref());
    // Class 57 is an operator, a timeout of the whole statement, or a server that stops.
    let of_the_session = [UNKNOWN_NAMESPACE, HELD_BY_FRONT, OTHER_TERM].contains(&code.as_str())
        || ["08", "57"].iter().any(|class| code.starts_with(class))
        || ConnectionState::after_code(&code) != ConnectionState::Usable;
    !of_the_session && server_at_fault(&code, Phase::Write).is_none()
}

/// Whether `error` says that a table, function or row of the library is missing, or a right on it.
pub(crate) fn misses_schema(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(report) => {
            matches!(
                code(report.as_ref()).as_str(),
                "42P01" | "3F000" | "42883" | "42501" | UNKNOWN_NAMESPACE
            )
        }
        _ => false,
    }
}

fn code(report: &dyn DatabaseError) -> String {
    report.code().map(|code| code.into_owned()).unwrap_or_default()
}

/// The meaning of the server's answer to a statement or to the attempt to connect.
fn by_code(code: &str, phase: Phase) -> Meaning {
    server_at_fault(code, phase).unwrap_or_else(|| call_failed(code, phase))
}

fn server_at_fault(code: &str, phase: Phase) -> Option<Meaning> {
    use Meaning::Server;
    Some(match code {
        "42501" => Server(
            ErrorKind::Denied,
            FindingTopic::Permission,
            "the role lacks a right",
            "let the owner of the library's schema run SELECT grant_use_to('role') in that schema for this role",
        ),
        _ if code.starts_with("28") => Server(
            ErrorKind::Denied,
            FindingTopic::Permission,
            "the server refused the user or the password",
            "check them in the URL, and the server's pg_hba.conf",
        ),
        "25006" => Server(
            ErrorKind::ReadOnly,
            FindingTopic::Role,
            "the server takes no writes (a standby, or default_transaction_read_only)",
            "connect to the primary, or name all servers in the URL: postgres://user:password@one,two/database",
        ),
        "53100" => {
            Server(ErrorKind::ReadOnly, FindingTopic::Memory, "the server's disk is full", "free some space")
        }
        "53400" => Server(
            ErrorKind::ReadOnly,
            FindingTopic::Memory,
            "the server has reached a configured limit, such as temp_file_limit",
            "raise the limit",
        ),
        "42P01" | "3F000" | "42883" => Server(
            ErrorKind::Config,
            FindingTopic::Schema,
            "a part of the library's schema is missing, and the next call makes it again",
            "check the schema's name, and that no other program drops or moves it",
        ),
        "53300" => Server(
            ErrorKind::Unavailable,
            FindingTopic::Memory,
            "the server has no connection left",
            "raise max_connections, or lower the size of the pools",
        ),
        "26000" | "42P05" => Server(
            ErrorKind::Config,
            FindingTopic::Pooler,
            "the session does not know its own prepared statements: a pooler gives its statements to \
             several sessions of the server",
            "let the pooler work by sessions (pool_mode = session), or connect to the server itself",
        ),
        // PgBouncer's code for a startup parameter that it does not know.
        "08P01" if phase == Phase::Connect => Server(
            ErrorKind::Config,
            FindingTopic::Pooler,
            "the server, or a pooler before it, refuses a parameter of the connection",
            "leave `options` out of the URL, or add the parameter to the pooler's ignore_startup_parameters",
        ),
        _ => return None,
    })
}

fn call_failed(code: &str, phase: Phase) -> Meaning {
    use Meaning::Call;
    match code {
        "3D000" => {
            Call(ErrorKind::Config, "the database of the URL does not exist: create it, or change the URL")
        }
        "57014" => Call(ErrorKind::Timeout, "the statement was cancelled by its timeout or by an operator"),
        UNKNOWN_NAMESPACE => Call(
            ErrorKind::Unavailable,
            "the row of the namespace is missing in the database: the next call makes it again",
        ),
        // The whole statement was rolled back: nothing happened.
        "40001" | "40P01" | "55P03" => {
            Call(ErrorKind::Busy, "the statement conflicted with another one and was rolled back")
        }
        "57P03" => Call(ErrorKind::Unavailable, "the server is starting up or shutting down"),
        // The session was idle, so the statement was not run.
        "25P03" | "57P05" => Call(ErrorKind::Unavailable, "the server ended the session, which was idle"),
        _ if code.starts_with("08") || code.starts_with("57P") => match phase {
            Phase::Write => Call(ErrorKind::Unknown, "the session ended before the reply to a write"),
            _ => Call(ErrorKind::Unavailable, "the server ended the session"),
        },
        "53200" => Call(ErrorKind::Busy, "the server is out of memory"),
        "54000" => Call(ErrorKind::TooLarge, "the statement is larger than the server accepts"),
        _ => Call(ErrorKind::Backend, "the server reported an error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_leaves_only_a_write_unknown() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert_eq!(unreadable(broken(), Phase::Connect).kind(), ErrorKind::Unavailable);
        assert_eq!(unreadable(broken(), Phase::Read).kind(), ErrorKind::Unavailable);
        assert_eq!(unreadable(broken(), Phase::Write).kind(), ErrorKind::Unknown);
        assert_eq!(ConnectionState::after::<()>(&Err(broken())), ConnectionState::Broken);
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
            assert_eq!(by_code(code, Phase::Write).into_error().kind(), kind, "{code}");
        }
        assert_eq!(by_code("57P01", Phase::Read).into_error().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_password_that_a_server_quotes_is_not_shown() {
        let secrets = Secrets::default();
        secrets.add("hunter2");
        let quoted = sqlx::Error::Protocol("unknown message 'hunter2' from user app".to_owned());
        let error = typed(quoted, Phase::Read, &secrets);
        let text = format!("{error} {error:?}");
        assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
    }
}
