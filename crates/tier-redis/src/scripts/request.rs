//! One operation as a command, and the reply to it.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{Cell, Epoch, Fence, Reply, Result, State, Stored, Token, Version};
use tokio::time::Instant;

use super::Call;
use crate::{
    connection::ConnectionManager,
    error::{Effect, server_error, unexpected_reply},
    namespace::NamespaceState,
};

/// A command that the tier sends for one operation.
#[derive(Debug)]
pub(crate) enum Request {
    Script(Call),
    /// A plain SET that stores this version.
    Set(Cmd, Version),
}

/// The next step of an operation.
pub(crate) enum Action {
    /// The tier knows the reply, so no trip is needed.
    Answer(Result<Reply>),
    Send(Request),
}

impl Request {
    /// Sends the request. One round trip, or two if the server does not know the script.
    pub(crate) async fn send(
        self,
        manager: &Arc<ConnectionManager>,
        state: &NamespaceState,
        effect: Effect,
    ) -> Result<Reply> {
        let sent_at = Instant::now();
        let value = match &self {
            Self::Script(call) => call.run(manager, effect).await?,
            Self::Set(command, _) => manager.send(command, effect).await?,
        };
        self.reply(value, state, sent_at)
    }

    pub(super) fn command(&self) -> Cmd {
        match self {
            Self::Script(call) => call.by_hash(),
            Self::Set(command, _) => command.clone(),
        }
    }

    /// Decodes the reply and records the epoch that it carries.
    pub(super) fn reply(&self, value: Value, state: &NamespaceState, sent_at: Instant) -> Result<Reply> {
        match (self, value) {
            (_, Value::ServerError(answer)) => Err(server_error(&answer)),
            (Self::Set(_, version), Value::Okay) => Ok(Reply::Kept(*version)),
            (Self::Script(_), Value::BulkString(bytes)) => {
                let (epoch, reply) = decode_reply(&Bytes::from(bytes))?;
                state.epoch.record(Some(epoch), sent_at);
                Ok(reply)
            }
            _ => Err(unexpected_reply()),
        }
    }
}

/// Decodes the reply of a script: the epoch and the answer.
pub(crate) fn decode_reply(reply: &Bytes) -> Result<(Epoch, Reply)> {
    try_decode(reply).ok_or_else(unexpected_reply)
}

fn try_decode(reply: &Bytes) -> Option<(Epoch, Reply)> {
    let epoch = Epoch::from_u64(number_at(reply, 1)?);
    let version = |at| number_at(reply, at).map(Version::from_u64);
    let answer = match reply.first()? {
        b'H' => Reply::Hit(entry_in(reply.slice(9..))?),
        b'M' => Reply::Miss(Fence { token: Token::from_u64(number_at(reply, 9)?), version: version(17)? }),
        b'K' => Reply::Kept(version(9)?),
        b'R' if reply.len() == 9 => Reply::Refused(None),
        b'R' => Reply::Refused(Some(entry_in(reply.slice(9..))?)),
        b'D' => Reply::Done { existed: *reply.get(9)? == b'1', version: version(10)? },
        _ => return None,
    };
    Some((epoch, answer))
}

/// The entry in a cell, without a watermark. A script rarely finds an entry that the plain read before it
/// missed, too rarely to send the watermark's key with every call.
fn entry_in(cell: Bytes) -> Option<Stored> {
    let cell = Cell::decode(cell)?;
    let body = match cell.state {
        State::Value => Some(cell.bytes),
        State::Negative => None,
        _ => return None,
    };
    Some(Stored::new(cell.version, cell.deadlines, body))
}

fn number_at(bytes: &Bytes, at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}
