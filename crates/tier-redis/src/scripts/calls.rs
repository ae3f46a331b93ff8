//! Operations as script calls: their keys and arguments.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use terrace_tier::{
    Condition, Deadlines, Epoch, Error, ErrorKind, Op, Order, Result, Timestamp, Token, Version,
};

use super::{Call, Script};
use crate::{
    error::mixed_batch,
    namespace::{Layout, LogKeys},
};

/// A time to live of this many milliseconds or more never ends: 2^52, about 140,000 years. The numbers
/// of Lua and of Redis hold it exactly.
const FOREVER_MILLIS: u64 = 1 << 52;

/// The call of `lease.lua` for the cell with the key `cell`.
pub(crate) fn lease(
    cell: Bytes,
    layout: &Layout,
    token: Token,
    ttl: Duration,
    over: Option<Version>,
    replaces: Token,
) -> Call {
    let [epoch, shared_epoch] = layout.epochs();
    let args = vec![
        random_number(),
        number(token.as_u64()),
        millis(ttl),
        version_or_empty(over),
        number(replaces.as_u64()),
    ];
    Call { script: Script::Lease, keys: vec![cell, epoch, shared_epoch], args }
}

/// The call for an operation that changes the cell with the key `cell`. All scripts but `fill.lua` append
/// `entry_tail` to the log, with the version that they give.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a read, and for an operation or order that a later version of the
/// contract adds.
pub(crate) fn change(cell: Bytes, layout: &Layout, log: &LogKeys, entry_tail: Bytes, op: Op) -> Result<Call> {
    let [epoch, shared_epoch] = layout.epochs();
    let mut keys = vec![cell, epoch, shared_epoch];
    let (script, args) = match op {
        Op::Fill { fence, version, deadlines, body } => {
            keys.push(layout.waiters(fence.token));
            let [state, envelope] = content(body);
            let token = number(fence.token.as_u64());
            let version = number(version.as_u64());
            let args = vec![random_number(), token, version, deadline_bytes(&deadlines), state, envelope];
            return Ok(Call { script: Script::Fill, keys, args });
        }
        Op::Put { order, deadlines, body, tombstone_ttl } => {
            let [state, envelope] = content(body);
            let (order, version) = order_args(order)?;
            let ttl = millis(tombstone_ttl);
            (Script::Put, vec![order, version, ttl, deadline_bytes(&deadlines), state, envelope])
        }
        Op::Invalidate { version, tombstone_ttl } => {
            (Script::Invalidate, vec![version_or_empty(version), millis(tombstone_ttl)])
        }
        Op::Remove { tombstone_ttl } => (Script::Remove, vec![millis(tombstone_ttl)]),
        Op::Expire { deadlines } => (Script::Expire, vec![deadline_bytes(&deadlines)]),
        Op::Get | Op::Lease { .. } => return Err(mixed_batch()),
        unknown => return Err(unknown.unsupported()),
    };
    keys.extend([log.head.clone(), log.entries.clone()]);
    let args = std::iter::once(random_number()).chain(args).chain([entry_tail]).collect();
    Ok(Call { script, keys, args })
}

/// The call that makes all cells of a namespace dead, by new values for `epochs`.
pub(crate) fn clear(epochs: Vec<Bytes>, log: &LogKeys, entry_tail: Bytes) -> Call {
    let mut args = vec![random_number()];
    args.extend(epochs.iter().map(|_| random_number()));
    args.push(entry_tail);
    let keys = epochs.into_iter().chain([log.head.clone(), log.entries.clone()]).collect();
    Call { script: Script::Clear, keys, args }
}

pub(crate) fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// The first argument of most scripts. It becomes the epoch if the server has none, and makes the log entry
/// unique.
pub(crate) fn random_number() -> Bytes {
    number(Epoch::random().as_u64())
}

pub(crate) fn version_or_empty(version: Option<Version>) -> Bytes {
    version.map_or_else(Bytes::new, |version| number(version.as_u64()))
}

pub(crate) fn millis(ttl: Duration) -> Bytes {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(FOREVER_MILLIS);
    millis.to_string().into()
}

pub(crate) fn deadline_bytes(deadlines: &Deadlines) -> Bytes {
    let Deadlines { written, fresh_until, stale_until, expires_at } = *deadlines;
    let mut bytes = BytesMut::with_capacity(32);
    for point in [written, fresh_until, stale_until, expires_at] {
        bytes.put_u64(Timestamp::as_millis(point));
    }
    bytes.freeze()
}

/// The state and the envelope of an entry.
fn content(body: Option<Bytes>) -> [Bytes; 2] {
    match body {
        Some(envelope) => [Bytes::from_static(b"V"), envelope],
        None => [Bytes::from_static(b"N"), Bytes::new()],
    }
}

fn order_args(order: Order) -> Result<(Bytes, Bytes)> {
    match order {
        Order::Author(condition) => Ok(condition_args(condition)),
        Order::Follow(version) => Ok((Bytes::from_static(b"follow"), number(version.as_u64()))),
        Order::Unfenced(version) => Ok((Bytes::from_static(b"unfenced"), number(version.as_u64()))),
        _ => Err(Error::new(ErrorKind::Unsupported, "the tier does not know this order of writes")),
    }
}

/// The name and the version of a condition.
pub(crate) fn condition_args(condition: Condition) -> (Bytes, Bytes) {
    let (name, version): (&'static [u8], _) = match condition {
        Condition::Always => (b"always", Version::NONE),
        Condition::Absent => (b"absent", Version::NONE),
        Condition::Version(expected) => (b"version", expected),
    };
    (Bytes::from_static(name), number(version.as_u64()))
}
