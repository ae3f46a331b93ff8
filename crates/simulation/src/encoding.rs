//! Keys and values of simulated caches, as bytes.

use terrace_tier::{Op, TierKey};

use crate::history::Key;

/// A key is encoded as 8 bytes, big-endian; the key of a relay's watermark is longer or shorter.
pub(crate) fn key_of(key: &TierKey) -> Key {
    key.bytes.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}

/// The value that an operation brings.
pub(crate) fn value_in(op: &Op) -> Option<u64> {
    match op {
        Op::Put { body, .. } | Op::Fill { body, .. } => body.as_deref().and_then(value_of),
        _ => None,
    }
}

/// The number in an envelope that a cache of numbers made by the default codec. It stands at the end
/// as a varint of postcard, behind a header whose length is in the ninth and tenth byte.
pub fn value_of(envelope: &[u8]) -> Option<u64> {
    let header = usize::from(u16::from_be_bytes([*envelope.get(8)?, *envelope.get(9)?]));
    // A relay's watermark is no envelope.
    let digits = envelope.get(header..).filter(|digits| digits.len() < 10)?;
    let digit = |(place, byte): (usize, &u8)| u64::from(byte & 0x7f) << (7 * place);
    Some(digits.iter().enumerate().map(digit).sum())
}
