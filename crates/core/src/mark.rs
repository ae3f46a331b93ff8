//! A relay's mark: where it is kept, and what its bytes say.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Level, Role, Space, TierKey, Version, key};

/// The namespace of the marks.
const MARKS: &str = "terrace.relay";
/// Holder and version, before the place.
const HEADER_LEN: usize = 16;

/// How far one relay has come in a tier: the value of the mark that a
/// [`Publication`](crate::Publication) moves.
///
/// As bytes: `holder: u64 | certified: u64 | place`, big-endian.
///
/// ```
/// use bytes::Bytes;
/// use terrace_core::{Mark, Version};
///
/// let mark = Mark { holder: 7, certified: Version::from_u64(42), place: Bytes::from_static(b"here") };
/// assert_eq!(Mark::decode(&mark.encode()), Some(mark));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Tells relays apart.
    pub holder: u64,
    /// All that the truth had committed before the mark moved to this version was dropped by the step
    /// that wrote these bytes or before; [`Version::NONE`] says nothing.
    pub certified: Version,
    /// The place in the truth's log behind what was dropped.
    pub place: Bytes,
}

impl Mark {
    /// The key of a namespace's mark.
    pub fn key(namespace: &str) -> TierKey {
        let bytes = Bytes::copy_from_slice(namespace.as_bytes());
        TierKey { digest: key::key_digest(MARKS, None, &bytes), bytes }
    }

    /// Where the mark of a cache's `space` is kept in the same tier.
    pub fn space(space: &Space) -> Space {
        Space {
            namespace: MARKS.to_owned(),
            tenant: None,
            role: Role::Cache,
            level: Level::Fenced,
            schema: 0,
            shape: 0,
            budget: space.budget,
        }
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(HEADER_LEN + self.place.len());
        body.put_u64(self.holder);
        body.put_u64(self.certified.as_u64());
        body.put_slice(&self.place);
        body.freeze()
    }

    /// `None` for another layout. That of older programs had the place behind the holder: places are
    /// text, no byte of which is zero, and the first byte of a version always is.
    pub fn decode(body: &Bytes) -> Option<Self> {
        let (holder, rest) = body.split_first_chunk::<8>()?;
        let certified = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        let known = certified <= Version::MAX.as_u64();
        known.then(|| Self {
            holder: u64::from_be_bytes(*holder),
            certified: Version::from_u64(certified),
            place: body.slice(HEADER_LEN..),
        })
    }

    /// What the mark in these bytes proves, where it proves anything: what tiers give as
    /// [`Stored::certified`](crate::Stored).
    pub fn certified_in(body: &Bytes) -> Option<Version> {
        Self::decode(body).map(|mark| mark.certified).filter(|certified| *certified != Version::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_older_programs_is_no_mark() {
        let older = [&7u64.to_be_bytes()[..], b"7389012\n1\n2026-01-01\n740:740:"].concat();
        assert_eq!(Mark::decode(&older.into()), None);
        for end in 0..HEADER_LEN {
            assert_eq!(Mark::decode(&Bytes::from(vec![0; end])), None, "{end}");
        }
    }

    #[test]
    fn a_mark_that_certifies_nothing_proves_nothing() {
        let mark = |certified| Mark { holder: 1, certified, place: Bytes::new() }.encode();
        assert_eq!(Mark::certified_in(&mark(Version::NONE)), None);
        assert_eq!(Mark::certified_in(&mark(Version::MAX)), Some(Version::MAX));
    }
}
