//! What servers do, as facts of the history: read off the operations alone.

use terrace_core::{Op, Order, Reply, Result, Role, TierKey};

use super::{network::Link, recorder::Recorder};
use crate::{
    Call,
    history::{Fact, Key},
};

/// A server has carried out an operation.
pub(super) fn carried_out(
    recorder: &Recorder,
    link: Link,
    late: bool,
    key: &TierKey,
    op: &Op,
    reply: &Result<Reply>,
) {
    let key = key_of(key);
    let (Op::Put { body, .. } | Op::Fill { body, .. }) = op else {
        if link.role == Role::Store && matches!((op, reply), (Op::Remove { .. }, Ok(_))) {
            recorder.changed(key, None);
        }
        return;
    };
    if !matches!(reply, Ok(Reply::Kept(_))) {
        return;
    }
    let value = body.as_deref().and_then(value_of);
    if link.role == Role::Store {
        return recorder.changed(key, value);
    }
    // A put that its caller was told nothing of: it may happen at any time, and does now.
    if late && link.authority && matches!(op, Op::Put { order: Order::Author(_), .. }) {
        recorder.changed(key, value);
        recorder.changed(key, recorder.origin(key));
    }
    if let Some(value) = value {
        recorder.fact(Fact::Shown { tier: link.server, key, value });
    }
}

/// A process has got the answer to an operation.
pub(super) fn heard(recorder: &Recorder, link: Link, key: &TierKey, call: Call, reply: &Result<Reply>) {
    let writes = matches!(call, Call::Put | Call::Invalidate | Call::Remove);
    match reply {
        Ok(_) if writes && link.role == Role::Cache => {
            let Link { process, server: tier, .. } = link;
            let (key, put) = (Some(key_of(key)), call == Call::Put);
            recorder.fact(Fact::Confirmed { tier, process, key, put });
        }
        Ok(Reply::Hit(stored) | Reply::Refused(Some(stored))) if link.role == Role::Store => {
            if let Some(value) = stored.body.as_deref().and_then(value_of) {
                recorder.fact(Fact::Obtained { value });
            }
        }
        _ => {}
    }
}

/// Keys are encoded as 8 bytes, big-endian.
pub(super) fn key_of(key: &TierKey) -> Key {
    key.bytes.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}

/// The number in an envelope that a cache of numbers made, by the default codec: at its end as a
/// varint of postcard, behind a header whose length stands at the ninth byte.
pub fn value_of(envelope: &[u8]) -> Option<u64> {
    let header = usize::from(u16::from_be_bytes([*envelope.get(8)?, *envelope.get(9)?]));
    let digits = envelope.get(header..)?;
    let digit = |(place, byte): (usize, &u8)| u64::from(byte & 0x7f) << (7 * place);
    Some(digits.iter().enumerate().map(digit).sum())
}
