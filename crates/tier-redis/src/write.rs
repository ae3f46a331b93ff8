//! Operations as script calls, and their answers.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use terrace_tier::{
    Cell, Condition, Deadlines, Epoch, Error, ErrorKind, Fence, Op, Order, Reply, Result, State, Stored,
    Timestamp, Token, Version,
};

use crate::{
    fault,
    layout::Layout,
    log::Keys,
    script::{Call, Name},
};

/// From here on, in milliseconds, a time to live is for ever: 2^52, about 140,000 years, which the
/// scripts' numbers and Redis take.
pub(crate) const FOREVER_MILLIS: u64 = 1 << 52;

/// The script call for `op` on the cell `key`; `None` for [`Op::Get`], which needs no script. An operation
/// that changes a key also appends to the log, of which `logged` gives the keys and this change's note.
///
/// # Errors
/// [`ErrorKind::Unsupported`](terrace_tier::ErrorKind::Unsupported) for an operation or order that a
/// later version of the contract adds.
pub(crate) fn call(key: Bytes, layout: &Layout, logged: (&Keys, Bytes), op: Op) -> Result<Option<Call>> {
    let tells = !matches!(op, Op::Lease { .. } | Op::Fill { .. });
    let [epoch, common] = layout.epochs();
    let mut keys = vec![key, epoch, common];
    let (script, args) = match op {
        Op::Get => return Ok(None),
        Op::Lease { token, ttl, over, replaces } => {
            let tokens = [token, replaces].map(|token| number(token.as_u64()));
            let [token, replaces] = tokens;
            (Name::Lease, vec![token, millis(ttl), version_or_none(over), replaces])
        }
        Op::Fill { fence, version, deadlines, body } => {
            let [state, envelope] = content(body);
            keys.push(layout.waiters(fence.token));
            let token = number(fence.token.as_u64());
            (Name::Fill, vec![token, number(version.as_u64()), deadline_bytes(&deadlines), state, envelope])
        }
        Op::Put { order, deadlines, body, tombstone_ttl } => {
            let [state, envelope] = content(body);
            let (word, version) = order_words(order).ok_or_else(unsupported_order)?;
            let (word, version) = (Bytes::from_static(word.as_bytes()), number(version.as_u64()));
            (
                Name::Put,
                vec![word, version, millis(tombstone_ttl), deadline_bytes(&deadlines), state, envelope],
            )
        }
        Op::Invalidate { version, tombstone_ttl } => {
            (Name::Invalidate, vec![version_or_none(version), millis(tombstone_ttl)])
        }
        Op::Remove { tombstone_ttl } => (Name::Remove, vec![millis(tombstone_ttl)]),
        Op::Expire { deadlines } => (Name::Expire, vec![deadline_bytes(&deadlines)]),
        unknown => return Err(unknown.unsupported()),
    };
    let mut args: Vec<Bytes> = std::iter::once(number(Epoch::random().as_u64())).chain(args).collect();
    if tells {
        let (log, note) = logged;
        keys.extend([log.head.clone(), log.entries.clone()]);
        args.push(note);
    }
    Ok(Some(Call { script, keys, args }))
}

/// What a script said: the epoch and the answer.
pub(crate) fn answer(reply: &Bytes) -> Result<(Epoch, Reply)> {
    read_answer(reply).ok_or_else(fault::unreadable)
}

fn read_answer(reply: &Bytes) -> Option<(Epoch, Reply)> {
    let epoch = Epoch::from_u64(number_at(reply, 1)?);
    let version = |at| number_at(reply, at).map(Version::from_u64);
    let answer = match reply.first()? {
        b'H' => Reply::Hit(stored(Cell::decode(reply.slice(9..))?)?),
        b'M' => Reply::Miss(Fence { token: Token::from_u64(number_at(reply, 9)?), version: version(17)? }),
        b'K' => Reply::Kept(version(9)?),
        b'R' if reply.len() == 9 => Reply::Refused(None),
        b'R' => Reply::Refused(Some(stored(Cell::decode(reply.slice(9..))?)?)),
        b'D' => Reply::Done { existed: *reply.get(9)? == b'1', version: version(10)? },
        _ => return None,
    };
    Some((epoch, answer))
}

/// The value or negative entry in a cell, not certified: a hit that a script answers is none that a
/// plain read found a moment before, so seldom that it is not worth a key in every call.
pub(crate) fn stored(cell: Cell) -> Option<Stored> {
    let body = match cell.state {
        State::Value => Some(cell.bytes),
        State::Negative => None,
        _ => return None,
    };
    Some(Stored::new(cell.version, cell.deadlines, body))
}

/// The bytes of an envelope that an operation carries.
pub(crate) fn body_bytes(op: &Op) -> usize {
    match op {
        Op::Fill { body: Some(body), .. } | Op::Put { body: Some(body), .. } => body.len(),
        _ => 0,
    }
}

fn number_at(bytes: &Bytes, at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

/// Makes all cells of a namespace dead, and tells so.
pub(crate) fn clear(epochs: Vec<Bytes>, log: &Keys, note: Bytes) -> Call {
    let random = || number(Epoch::random().as_u64());
    let mut args = vec![random()];
    args.extend(epochs.iter().map(|_| random()));
    args.push(note);
    let keys = epochs.into_iter().chain([log.head.clone(), log.entries.clone()]).collect();
    Call { script: Name::Clear, keys, args }
}

pub(crate) fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub(crate) fn version_or_none(version: Option<Version>) -> Bytes {
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

fn content(body: Option<Bytes>) -> [Bytes; 2] {
    match body {
        Some(envelope) => [Bytes::from_static(b"V"), envelope],
        None => [Bytes::from_static(b"N"), Bytes::new()],
    }
}

fn unsupported_order() -> Error {
    Error::new(ErrorKind::Unsupported, "the tier does not know this order of writes")
}

fn order_words(order: Order) -> Option<(&'static str, Version)> {
    match order {
        Order::Author(condition) => Some(condition_words(condition)),
        Order::Follow(version) => Some(("follow", version)),
        Order::Unfenced(version) => Some(("open", version)),
        _ => None,
    }
}

pub(crate) fn condition_words(condition: Condition) -> (&'static str, Version) {
    match condition {
        Condition::Always => ("always", Version::NONE),
        Condition::Absent => ("absent", Version::NONE),
        Condition::Version(seen) => ("version", seen),
    }
}
