//! What a shared tier keeps for one key: the cell, its bytes, and the numbers in it.

mod op;
mod transition;
mod version;

pub use op::{Change, Condition, Fence, Moment, Op, Order, Reply, Role, Stored};
pub use transition::transition;
pub use version::{Epoch, Token, Version};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Deadlines, Timestamp};

/// What a cell stands for. Bytes with a state that this version does not know are no cell: [`Cell::decode`]
/// gives `None` for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// A value. `bytes` holds its envelope.
    Value,
    /// The loader or the store said that there is no value.
    Negative,
    /// A lease without a value. A fill must show its token.
    Lease,
    /// The key was invalidated or removed. The version is the least that a later fill must have.
    Tombstone,
}

/// What a shared tier keeps for one key: a state, the numbers that fence it, and the envelope.
///
/// The Redis tier and [`Swapping`](crate::Swapping) tiers keep these bytes, with big-endian integers:
///
/// | offset | length | content |
/// |---|---|---|
/// | 0 | 1 | state: `V` value, `N` negative, `L` lease, `T` tombstone |
/// | 1 | 8 | version |
/// | 9 | 8 | epoch |
/// | 17 | 8 | token, or 0 for none |
/// | 25 | 8 | written, ms since the Unix epoch |
/// | 33 | 8 | fresh until, ms |
/// | 41 | 8 | stale until, ms |
/// | 49 | 8 | expires at, ms |
/// | 57 | rest | envelope (values only) |
///
/// The envelope has a checksum. The header has none, since the server's scripts write it too. A bit that
/// flips in the header, in the server's memory, may give a copy another version or other deadlines. The
/// server's own expiry, which is kept beside the cell, still ends a copy that has one.
///
/// The fields are the layout, which programs of several versions share, so there will be no others. A new
/// kind of cell is a new [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What the cell stands for.
    pub state: State,
    /// The version of the value, or the least version that a fill must have.
    pub version: Version,
    /// The epoch of the namespace when the cell was written. The cell is dead once the epoch is another.
    pub epoch: Epoch,
    /// The lease on the key, if there is one. A stale value may be kept while a lease is held.
    pub token: Token,
    /// When the cell was written and how long it lives.
    pub deadlines: Deadlines,
    /// The envelope of a value. Empty in every other state.
    pub bytes: Bytes,
}

/// The length of a cell's header, which is everything but the envelope.
pub const HEADER_LEN: usize = 57;

impl State {
    const fn tag(self) -> u8 {
        match self {
            Self::Value => b'V',
            Self::Negative => b'N',
            Self::Lease => b'L',
            Self::Tombstone => b'T',
        }
    }

    const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            b'V' => Some(Self::Value),
            b'N' => Some(Self::Negative),
            b'L' => Some(Self::Lease),
            b'T' => Some(Self::Tombstone),
            _ => None,
        }
    }
}

impl Cell {
    /// The cell as bytes.
    ///
    /// # Cost
    /// One allocation.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_LEN + self.bytes.len());
        out.put_u8(self.state.tag());
        out.put_u64(self.version.as_u64());
        out.put_u64(self.epoch.as_u64());
        out.put_u64(self.token.as_u64());
        out.put_u64(self.deadlines.written.as_millis());
        out.put_u64(self.deadlines.fresh_until.as_millis());
        out.put_u64(self.deadlines.stale_until.as_millis());
        out.put_u64(self.deadlines.expires_at.as_millis());
        out.put_slice(&self.bytes);
        out.freeze()
    }

    /// The cell in `bytes`, or `None` for bytes that are not a cell.
    ///
    /// # Cost
    /// No allocation: the envelope shares the memory of `bytes`.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < HEADER_LEN {
            return None;
        }
        let number =
            |offset: usize| bytes[offset..].first_chunk::<8>().map_or(0, |chunk| u64::from_be_bytes(*chunk));
        let at = |offset: usize| Timestamp::from_millis(number(offset));
        let state = State::from_tag(bytes[0])?;
        let (version, epoch) = (Version::from_u64(number(1)), Epoch::from_u64(number(9)));
        let token = Token::from_u64(number(17));
        let deadlines =
            Deadlines { written: at(25), fresh_until: at(33), stale_until: at(41), expires_at: at(49) };
        bytes.advance(HEADER_LEN);
        Some(Self { state, version, epoch, token, deadlines, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_comes_back_from_its_bytes() {
        let cell = Cell {
            state: State::Value,
            version: Version::from_u64(7),
            epoch: Epoch::from_u64(u64::MAX),
            token: Token::from_u64(9),
            deadlines: Deadlines::ttl(Timestamp::from_millis(3), std::time::Duration::from_secs(1)),
            bytes: Bytes::from_static(b"envelope"),
        };
        assert_eq!(Cell::decode(cell.encode()), Some(cell));
    }

    #[test]
    fn foreign_bytes_are_no_cell() {
        assert_eq!(Cell::decode(Bytes::from_static(b"V")), None);
        assert_eq!(Cell::decode(Bytes::from(vec![b'x'; 80])), None);
    }
}
