//! The reply of a script to an operation on a cell.

use bytes::Bytes;
use redis::Value;
use terrace_tier::{Cell, Epoch, Fence, Reply, Result, State, Stored, Token, Version};
use tokio::time::Instant;

use crate::{
    error::{server_error, unexpected_reply},
    namespace::NamespaceState,
};

/// What the server answered to one operation.
pub(crate) struct ScriptReply {
    /// It may be [`Value::ServerError`].
    pub(crate) value: Value,
    pub(crate) sent_at: Instant,
}

impl ScriptReply {
    /// Decodes the reply, and records the epoch that it carries.
    pub(crate) fn decode(self, state: &NamespaceState) -> Result<Reply> {
        match self.value {
            Value::BulkString(bytes) => {
                let (epoch, reply) = decode(&Bytes::from(bytes)).ok_or_else(unexpected_reply)?;
                state.epoch.record(Some(epoch), self.sent_at);
                Ok(reply)
            }
            Value::ServerError(answer) => Err(server_error(&answer)),
            _ => Err(unexpected_reply()),
        }
    }
}

/// Decodes the reply of a script: the epoch and the answer.
fn decode(reply: &Bytes) -> Option<(Epoch, Reply)> {
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

/// The entry in a cell, without a watermark. At level `Bounded` a script rarely finds an entry that the plain read
/// before it missed, too rarely to send the watermark's key with every call.
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
