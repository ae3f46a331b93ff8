//! A relay's mark: where it is kept, and what its bytes say.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Namespace, Role, TierKey, Version, key};

/// The namespace of the marks.
const WATERMARKS: &str = "terrace.relay";
/// Holder and version, before the place.
const HEADER_LEN: usize = 16;

/// How far one relay has come in a tier: the value of the mark that a
/// [`Publication`](crate::Publication) moves.
///
/// As bytes: `holder: u64 | version: u64 | place`, big-endian.
///
/// ```
/// use bytes::Bytes;
/// use terrace_tier::{Watermark, Version};
///
/// let mark = Watermark { holder: 7, version: Version::from_u64(42), place: Bytes::from_static(b"here") };
/// assert_eq!(Watermark::decode(&mark.encode()), Some(mark));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Tells relays apart.
    pub holder: u64,
    /// All that the truth had committed before the mark moved to this version was dropped by the step
    /// that wrote these bytes or before; [`Version::NONE`] says nothing.
    pub version: Version,
    /// The place in the truth's log behind what was dropped.
    pub place: Bytes,
}

impl Watermark {
    /// The key of a namespace's mark.
    pub fn key(namespace: &str) -> TierKey {
        let bytes = Bytes::copy_from_slice(namespace.as_bytes());
        TierKey { digest: key::key_digest(WATERMARKS, None, &bytes), bytes }
    }

    /// Where the mark of a cache's `space` is kept in the same tier.
    pub fn namespace(cache: &Namespace) -> Namespace {
        Namespace::new(WATERMARKS, Role::Cache).with_budget(cache.budget)
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(HEADER_LEN + self.place.len());
        body.put_u64(self.holder);
        body.put_u64(self.version.as_u64());
        body.put_slice(&self.place);
        body.freeze()
    }

    /// `None` for another layout. That of older programs had the place behind the holder: places are
    /// text, no byte of which is zero, and the first byte of a version always is.
    pub fn decode(body: &Bytes) -> Option<Self> {
        let (holder, rest) = body.split_first_chunk::<8>()?;
        let watermark = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        let known = watermark <= Version::MAX.as_u64();
        known.then(|| Self {
            holder: u64::from_be_bytes(*holder),
            version: Version::from_u64(watermark),
            place: body.slice(HEADER_LEN..),
        })
    }

    /// What the mark in these bytes proves, where it proves anything: what tiers give as
    /// [`Stored::watermark`](crate::Stored).
    pub fn version_in(body: &Bytes) -> Option<Version> {
        Self::decode(body).map(|mark| mark.version).filter(|watermark| *watermark != Version::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_older_programs_is_no_mark() {
        let older = [&7u64.to_be_bytes()[..], b"7389012\n1\n2026-01-01\n740:740:"].concat();
        assert_eq!(Watermark::decode(&older.into()), None);
        for end in 0..HEADER_LEN {
            assert_eq!(Watermark::decode(&Bytes::from(vec![0; end])), None, "{end}");
        }
    }

    #[test]
    fn a_mark_that_certifies_nothing_proves_nothing() {
        let mark = |version| Watermark { holder: 1, version, place: Bytes::new() }.encode();
        assert_eq!(Watermark::version_in(&mark(Version::NONE)), None);
        assert_eq!(Watermark::version_in(&mark(Version::MAX)), Some(Version::MAX));
    }
}
