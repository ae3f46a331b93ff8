//! Typed errors for what the client and the server report.

use redis::{RedisError, ServerError};
use terrace_tier::{Error, ErrorKind};

/// The short name of the tier in stats, logs and errors.
pub(crate) const NAME: &str = "redis";

/// Whether a command changes data. This decides which error reports a reply that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The command changes nothing that matters: a missing reply is [`ErrorKind::Timeout`].
    Read,
    /// The command may or may not have run: a missing reply is [`ErrorKind::Unknown`].
    Write,
}

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
pub(crate) fn client_error(cause: RedisError, effect: Effect) -> Error {
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
        ErrorKind::Unknown => "the connection broke before the reply arrived",
        _ => "the Redis client failed",
    };
    error(kind, message).with_source(cause)
}

/// The error for an error reply of the server. A refused write is never [`ErrorKind::Unknown`], because
/// its outcome is known.
pub(crate) fn server_error(answer: &ServerError) -> Error {
    let kind = code_kind(answer.code()).unwrap_or(ErrorKind::Backend);
    error(kind, format!("the server answered {} {}", answer.code(), answer.details().unwrap_or_default()))
}

/// The error for a reply that a Redis server never gives to this command.
pub(crate) fn unexpected_reply() -> Error {
    error(ErrorKind::Backend, "the server's reply does not fit the command")
}

/// The error for a batch whose operations differ.
pub(crate) fn mixed_batch() -> Error {
    error(ErrorKind::Unsupported, "all operations of a batch must be of one kind")
}

fn code_kind(code: &str) -> Option<ErrorKind> {
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => Some(ErrorKind::Denied),
        "READONLY" | "OOM" | "MISCONF" | "NOREPLICAS" => Some(ErrorKind::ReadOnly),
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY" | "TRYAGAIN" => Some(ErrorKind::Unavailable),
        _ => None,
    }
}
