//! What the client and the server report, as typed errors.

use redis::{RedisError, ServerError};
use terrace_tier::{Error, ErrorKind};

/// The short name of the tier in stats, logs and errors.
pub(crate) const NAME: &str = "redis";

/// Whether an operation may be repeated without harm; decides how a lost answer is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing was changed, or nothing that matters: no answer is [`ErrorKind::Timeout`].
    Read,
    /// No answer leaves it open whether it happened: [`ErrorKind::Unknown`].
    Write,
}

/// An error of this tier.
pub(crate) fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message).at_tier(NAME)
}

/// The connection failed while an answer was awaited, or the client refused.
pub(crate) fn of_client(cause: RedisError, effect: Effect) -> Error {
    let kind = match (code_kind(cause.code().unwrap_or_default()), cause.kind()) {
        (Some(kind), _) => kind,
        (None, redis::ErrorKind::AuthenticationFailed) => ErrorKind::Denied,
        (None, redis::ErrorKind::RESP3NotSupported) => ErrorKind::Unsupported,
        (None, redis::ErrorKind::Io | redis::ErrorKind::Parse) => match effect {
            Effect::Read => ErrorKind::Unavailable,
            Effect::Write => ErrorKind::Unknown,
        },
        (None, _) => ErrorKind::Backend,
    };
    let message = match kind {
        ErrorKind::Denied => "the server refused the login; check user, password and permissions",
        ErrorKind::Unsupported => "the server does not speak RESP3; Redis 6.2 or later is needed",
        ErrorKind::Unavailable => "the server cannot be reached",
        ErrorKind::Unknown => "the connection broke before the answer came",
        _ => "the client failed",
    };
    error(kind, message).with_source(cause)
}

/// The server answered with an error: nothing was done.
pub(crate) fn of_server(answer: &ServerError) -> Error {
    let kind = code_kind(answer.code()).unwrap_or(ErrorKind::Backend);
    error(kind, format!("the server answered {} {}", answer.code(), answer.details().unwrap_or_default()))
}

/// A reply that no server of ours gives to this command.
pub(crate) fn unreadable() -> Error {
    error(ErrorKind::Backend, "the server's reply does not fit the command")
}

fn code_kind(code: &str) -> Option<ErrorKind> {
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => Some(ErrorKind::Denied),
        "READONLY" | "OOM" | "MISCONF" | "NOREPLICAS" => Some(ErrorKind::ReadOnly),
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY" | "TRYAGAIN" => Some(ErrorKind::Unavailable),
        _ => None,
    }
}
