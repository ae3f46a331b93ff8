//! The two questions that a follower asks the server.

use bytes::Bytes;
use redis::{Pipeline, Value, aio::MultiplexedConnection};
use terrace_tier::{Epoch, Result};

use super::{
    Keys,
    cursor::{Cursor, ROUND, Round},
};
use crate::{
    fault::{self, Effect, of_client},
    script::{Call, Name},
};

/// How long the server may hold an answer back while nothing happens; so often, at least, a
/// follower hears that nothing did.
pub(super) const BLOCK_MILLIS: u64 = 100;

/// What was appended behind the cursor; waits for something for a while.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    cursor: &Cursor,
) -> Result<Round> {
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("HMGET").arg(&keys.head[..]).arg("id").arg("sequence");
    let read = commands.cmd("XREAD").arg("COUNT").arg(ROUND).arg("BLOCK").arg(BLOCK_MILLIS);
    read.arg("STREAMS").arg(&keys.entries[..]).arg(format!("{}-0", cursor.sequence));
    let replies = connection.send_packed_commands(&commands, 0, 2).await;
    let replies = replies.map_err(|cause| of_client(cause, Effect::Read))?;
    let Ok([head, entries]) = <[Value; 2]>::try_from(replies) else { return Err(fault::unreadable()) };
    Ok(Round { head: head_in(head)?, entries: entries_in(entries)? })
}

/// Joins the log, and begins one where there is none or where it went back behind what the
/// follower knows; then the epochs of `spaces` are renewed, unless another follower has done so.
pub(super) async fn join(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    known: Option<&Cursor>,
    epochs: &[&str],
) -> Result<Cursor> {
    let random = || Bytes::copy_from_slice(&Epoch::random().as_u64().to_be_bytes());
    let known = known.map(|known| (known.id.clone(), known.sequence, known.last.clone()));
    let (id, sequence, last) = known.unwrap_or_default();
    let begins = [keys.head.clone(), keys.entries.clone()].into_iter();
    let epochs = epochs.iter().map(|epoch| Bytes::copy_from_slice(epoch.as_bytes()));
    let mut args = vec![random(), id, sequence.to_string().into(), last];
    args.extend((0..epochs.len()).map(|_| random()));
    let call = Call { script: Name::Join, keys: begins.chain(epochs).collect(), args };
    let reply = connection.send_packed_command(&call.in_full()).await;
    match reply.map_err(|cause| of_client(cause, Effect::Read))? {
        Value::Array(parts) => match <[Value; 3]>::try_from(parts) {
            Ok([id, sequence, last]) => {
                let sequence = number_in(&sequence).ok_or_else(fault::unreadable)?;
                Ok(Cursor { id: bytes_in(id)?, sequence, last: bytes_in(last)? })
            }
            Err(_) => Err(fault::unreadable()),
        },
        Value::ServerError(answer) => Err(fault::of_server(&answer)),
        _ => Err(fault::unreadable()),
    }
}

fn head_in(value: Value) -> Result<Option<(Bytes, u64)>> {
    let Value::Array(fields) = value else { return Err(refused(value)) };
    match <[Value; 2]>::try_from(fields) {
        Ok([Value::BulkString(id), sequence]) => {
            let sequence = number_in(&sequence).ok_or_else(fault::unreadable)?;
            Ok(Some((id.into(), sequence)))
        }
        _ => Ok(None),
    }
}

/// `{stream: [[id, [field, entry]], ..]}`, or nothing where nothing was appended.
fn entries_in(value: Value) -> Result<Vec<(u64, Bytes)>> {
    let entries = match value {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(mut streams) => streams.pop().map(|(_, entries)| entries),
        other => return Err(refused(other)),
    };
    let Some(Value::Array(entries)) = entries else { return Err(fault::unreadable()) };
    entries.into_iter().map(|entry| entry_in(entry).ok_or_else(fault::unreadable)).collect()
}

fn entry_in(value: Value) -> Option<(u64, Bytes)> {
    let Value::Array(parts) = value else { return None };
    let [id, Value::Array(mut fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let Value::BulkString(id) = id else { return None };
    let sequence = std::str::from_utf8(&id).ok()?.strip_suffix("-0")?.parse().ok()?;
    match fields.pop()? {
        Value::BulkString(entry) => Some((sequence, entry.into())),
        _ => None,
    }
}

fn number_in(value: &Value) -> Option<u64> {
    redis::from_redis_value_ref(value).ok()
}

fn bytes_in(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        _ => Err(fault::unreadable()),
    }
}

fn refused(value: Value) -> terrace_tier::Error {
    match value {
        Value::ServerError(answer) => fault::of_server(&answer),
        _ => fault::unreadable(),
    }
}
