//! Typed errors for what the client and the server report.
//!
//! What a server answers is foreign text: it may repeat what it was sent, keys and passwords included. So each
//! answer passes through [`Secrets::redact`], and the arguments that a server repeats are cut off.

use std::fmt;

use redis::{RedisError, ServerError};
use terrace_tier::{Error, ErrorKind, Secrets};

use crate::findings::finding_of_code;

/// The short name of the tier in stats, logs and errors.
pub(crate) const NAME: &str = "redis";

/// The most bytes of a foreign text that an error shows.
const FOREIGN_BYTES: usize = 300;

/// What to do where the server cannot be reached.
pub(crate) const REACH: &str = "check that the server runs, and that this host reaches it";
/// What to do where a write may have happened.
const ASK_FIRST: &str = "the write may have happened: read the value before you try again";

/// Whether a command changes data. This decides which error reports a reply that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The command changes nothing that matters: a missing reply is [`ErrorKind::Timeout`].
    Read,
    /// The command may or may not have run: a missing reply is [`ErrorKind::Unknown`].
    Write,
}

/// Text of the server or of the client library, without secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Foreign(String);

impl Foreign {
    pub(crate) fn new(text: &str, secrets: &Secrets) -> Self {
        // Keys may stand among the arguments, too.
        let (text, _arguments) = text.split_once(", with args beginning with").unwrap_or((text, ""));
        let mut text = secrets.redact(text).into_owned();
        if text.len() > FOREIGN_BYTES {
            text.truncate(text.floor_char_boundary(FOREIGN_BYTES));
        }
        Self(text)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Foreign {}

/// An error of this tier.
pub(crate) fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message).at_tier(NAME)
}

/// Adds the tier and the operation to `error`, unless it names them already.
pub(crate) fn during(error: Error, operation: &'static str) -> Error {
    let error = if error.tier().is_none() { error.at_tier(NAME) } else { error };
    if error.operation().is_none() { error.during(operation) } else { error }
}

/// The error for a connection that failed before the reply, or for a command that the client refused.
pub(crate) fn client_error(cause: &RedisError, effect: Effect, secrets: &Secrets) -> Error {
    let details = cause.detail().unwrap_or_default();
    if let Some(code) = cause.code() {
        return coded_error(code, details, secrets);
    }
    let (kind, message, cure) = match (cause.kind(), effect) {
        (redis::ErrorKind::AuthenticationFailed, _) => {
            return coded_error("WRONGPASS", "the password is wrong, or none is needed", secrets);
        }
        (redis::ErrorKind::Io | redis::ErrorKind::Parse, Effect::Read) => {
            (ErrorKind::Unavailable, "the server cannot be reached", REACH)
        }
        (redis::ErrorKind::Io | redis::ErrorKind::Parse, Effect::Write) => {
            (ErrorKind::Unknown, "the connection broke before the reply arrived", ASK_FIRST)
        }
        _ => (ErrorKind::Backend, "the Redis client failed", "the cause says what the client refused"),
    };
    error(kind, message).with_cure(cure).with_source(Foreign::new(&cause.to_string(), secrets))
}

/// The error for an error reply of the server. A refused write is not [`ErrorKind::Unknown`]: a server refuses the
/// first command of a script that writes. Where it takes that one and refuses the log's entry, since the key of the
/// log is a foreign one or the user may not run XADD, the cells are written all the same.
pub(crate) fn server_error(answer: &ServerError) -> Error {
    // The connection has taken the passwords out of the answer.
    coded_error(answer.code(), answer.details().unwrap_or_default(), &Secrets::default())
}

fn coded_error(code: &str, details: &str, secrets: &Secrets) -> Error {
    let answer = Foreign::new(format!("{code} {details}").trim_end(), secrets);
    let code = inner_code(code, details);
    let kind = kind_of_code(code);
    let Some(finding) = finding_of_code(code, &answer) else {
        return error(kind, format!("the server answered {answer}"));
    };
    let error = error(kind, finding.to_string());
    let error = match finding.cause().contains(&answer.0) {
        true => error,
        false => error.with_source(Foreign(format!("the server answered {answer}"))),
    };
    error.with_finding(finding)
}

/// The code of an answer of the server.
pub(crate) fn code_of(answer: &ServerError) -> &str {
    inner_code(answer.code(), answer.details().unwrap_or_default())
}

/// The code that matters. A server answers `ERR` for what fails within a script; the code of that command
/// stands in the details, and before Redis 7.2 a refused permission has no code at all.
fn inner_code<'a>(code: &'a str, details: &'a str) -> &'a str {
    if code != "ERR" {
        return code;
    }
    if details.contains("ACL failure in script") || details.contains("can't run this command or subcommand") {
        return "NOPERM";
    }
    // The client library leaves out the code of a refused SELECT.
    if details.contains("has no permissions to run") {
        return "NOPERM";
    }
    if details.contains("not allowed in cluster mode") {
        return "CROSSSLOT";
    }
    if details.contains("DB index is out of range") {
        return NO_DATABASE;
    }
    if details.starts_with("unknown command") || details.starts_with("unknown subcommand") {
        return UNKNOWN_COMMAND;
    }
    if details.starts_with("max number of clients") {
        return MANY_CLIENTS;
    }
    let nested = details.split(": -").nth(1).and_then(|rest| rest.split(' ').next());
    nested.filter(|code| code.bytes().all(|byte| byte.is_ascii_uppercase())).unwrap_or(code)
}

/// Stands for an `ERR` that says that the server does not know the command.
pub(crate) const UNKNOWN_COMMAND: &str = "unknown command";
/// Stands for an `ERR` that says that the server has no database of the number in the URL.
pub(crate) const NO_DATABASE: &str = "no database";
/// Stands for an `ERR` that says that the server takes no more connections.
pub(crate) const MANY_CLIENTS: &str = "max number of clients";

/// The error for a reply that a Redis server never gives to this command.
pub(crate) fn unexpected_reply() -> Error {
    error(ErrorKind::Backend, "the server's reply does not fit the command")
}

/// The error for a batch whose operations differ.
pub(crate) fn mixed_batch() -> Error {
    error(ErrorKind::Unsupported, "all operations of a batch must be of one kind")
}

fn kind_of_code(code: &str) -> ErrorKind {
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => ErrorKind::Denied,
        "READONLY" | "OOM" | "MISCONF" | "NOREPLICAS" => ErrorKind::ReadOnly,
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY" | "TRYAGAIN" | MANY_CLIENTS => {
            ErrorKind::Unavailable
        }
        // The server forgot the script twice in a row, so nothing was done.
        "NOSCRIPT" => ErrorKind::Busy,
        "CROSSSLOT" | "MOVED" | "ASK" | NO_DATABASE => ErrorKind::Config,
        UNKNOWN_COMMAND => ErrorKind::Unsupported,
        _ => ErrorKind::Backend,
    }
}

/// Whether an answer with this code means that this is not the server for the cache: the connection ends, and
/// the next one may lead to another server.
pub(crate) fn means_another_server(code: &str) -> bool {
    matches!(code, "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN")
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn answer(text: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap() {
            Value::ServerError(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_from_within_a_script_have_the_code_of_the_command() {
        for (text, kind) in [
            (
                "READONLY You can't write against a read only replica. script: ab, on @user_script:1.",
                ErrorKind::ReadOnly,
            ),
            (
                "ERR Error running script (call to f_ab): @user_script:1: @user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.",
                ErrorKind::ReadOnly,
            ),
            (
                "ERR Error running script (call to f_ab): @user_script:1: @user_script: 1: -READONLY You can't write.",
                ErrorKind::ReadOnly,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: ab, on @user_script:1.",
                ErrorKind::Denied,
            ),
            (
                "ERR ACL failure in script: User app has no permissions to run the 'hset' command script: ab",
                ErrorKind::Denied,
            ),
            ("NOPERM this user has no permissions to run the 'get' command", ErrorKind::Denied),
            ("BUSY Redis is busy running a script.", ErrorKind::Unavailable),
            ("CROSSSLOT Keys in request don't hash to the same slot", ErrorKind::Config),
            ("ERR max number of clients reached", ErrorKind::Unavailable),
            ("ERR unknown command 'EVALSHA', with args beginning with: 'a'", ErrorKind::Unsupported),
            ("ERR something else", ErrorKind::Backend),
        ] {
            let error = server_error(&answer(text));
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[test]
    fn arguments_and_passwords_that_an_answer_repeats_are_not_shown() {
        let error =
            server_error(&answer("ERR unknown command 'GET', with args beginning with: 'terrace:users:me'"));
        assert!(error.to_string().contains("GET") && !error.to_string().contains("users"), "{error}");
        let secrets = Secrets::default();
        secrets.add("S3cret");
        let cause = RedisError::from(answer("ERR wrong line: AUTH default S3cret"));
        let error = client_error(&cause, Effect::Read, &secrets);
        let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
        assert!(shown.contains("AUTH default ***") && !shown.contains("S3cret"), "{shown}");
    }
}
