//! The two requests of a log reader.

use bytes::Bytes;
use redis::{Pipeline, Value};
use terrace_tier::{Error, Result};

use super::cursor::{Cursor, LogPage, PAGE_ENTRIES};
use crate::{
    connection::Connection,
    error::{Effect, server_error, unexpected_reply},
    namespace::LogKeys,
    scripts::{Call, Script, ScriptCall, random_number},
};

/// How long the server may hold a reply back while the log has no new entry. A follower of a quiet log
/// gets a heartbeat at least this often.
pub(super) const BLOCK_MILLIS: u64 = 100;

/// The entries after the cursor. Waits for a while if there are none.
pub(super) async fn read_page(
    connection: &mut Connection,
    keys: &LogKeys,
    cursor: &Cursor,
) -> Result<LogPage> {
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("HMGET").arg(&keys.head[..]).arg("id").arg("sequence");
    let read = commands.cmd("XREAD").arg("COUNT").arg(PAGE_ENTRIES).arg("BLOCK").arg(BLOCK_MILLIS);
    read.arg("STREAMS").arg(&keys.entries[..]).arg(format!("{}-0", cursor.sequence));
    let replies = connection.send_many(&commands).await;
    let replies = replies.map_err(|cause| connection.error(&cause, Effect::Read))?;
    let Ok([head, entries]) = <[Value; 2]>::try_from(replies) else { return Err(unexpected_reply()) };
    Ok(LogPage { head: head_in(head)?, entries: entries_in(entries)? })
}

/// The end of the log. Begins a new log if the server has none or lacks the entry `last`. If the log is
/// not the log of `last`, also renews `epochs`, unless another reader of this log has done so.
pub(super) async fn join(
    connection: &mut Connection,
    keys: &LogKeys,
    last: Option<&Cursor>,
    epochs: &[&str],
) -> Result<Cursor> {
    let last = last.map(|last| (last.id.clone(), last.sequence, last.entry.clone()));
    let (id, sequence, entry) = last.unwrap_or_default();
    let log_keys = [keys.head.clone(), keys.entries.clone()].into_iter();
    let epochs = epochs.iter().map(|epoch| Bytes::copy_from_slice(epoch.as_bytes()));
    let mut args = vec![random_number(), id, sequence.to_string().into(), entry];
    args.extend((0..epochs.len()).map(|_| random_number()));
    let call = Call { script: Script::JoinLog, keys: log_keys.chain(epochs).collect(), args };
    let reply = connection.send(&call.in_full()).await;
    match reply.map_err(|cause| connection.error(&cause, Effect::Read))? {
        Value::Array(parts) => match <[Value; 3]>::try_from(parts) {
            Ok([id, sequence, entry]) => {
                let sequence = number_in(&sequence).ok_or_else(unexpected_reply)?;
                Ok(Cursor { id: bytes_in(id)?, sequence, entry: bytes_in(entry)? })
            }
            Err(_) => Err(unexpected_reply()),
        },
        other => Err(error_in(other)),
    }
}

fn head_in(value: Value) -> Result<Option<(Bytes, u64)>> {
    let Value::Array(fields) = value else { return Err(error_in(value)) };
    match <[Value; 2]>::try_from(fields) {
        Ok([Value::BulkString(id), sequence]) => {
            let sequence = number_in(&sequence).ok_or_else(unexpected_reply)?;
            Ok(Some((id.into(), sequence)))
        }
        _ => Ok(None),
    }
}

/// Decodes `{stream: [[id, [field, entry]], ..]}`, which RESP2 sends as `[[stream, [..]]]`, or nil where there is
/// no new entry.
fn entries_in(value: Value) -> Result<Vec<(u64, Bytes)>> {
    let entries = match value {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(mut streams) => streams.pop().map(|(_, entries)| entries),
        Value::Array(mut streams) => match streams.pop() {
            Some(Value::Array(mut stream)) => stream.pop(),
            _ => None,
        },
        other => return Err(error_in(other)),
    };
    let Some(Value::Array(entries)) = entries else { return Err(unexpected_reply()) };
    entries.into_iter().map(|entry| entry_in(entry).ok_or_else(unexpected_reply)).collect()
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
        _ => Err(unexpected_reply()),
    }
}

fn error_in(value: Value) -> Error {
    match value {
        Value::ServerError(answer) => server_error(&answer),
        _ => unexpected_reply(),
    }
}
