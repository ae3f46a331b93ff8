//! A relay's watermark: where it is kept, and what its bytes say.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Namespace, Role, TierKey, Version, key};

/// The namespace that holds the watermarks of all caches.
const WATERMARKS: &str = "terrace.relay";
/// The bytes of relay and version, which precede the position.
const HEADER_LEN: usize = 16;

/// How far one relay has come in a tier. It is the value of the cell that a
/// [`Publication`](crate::Publication) writes.
///
/// As bytes: `relay: u64 | version: u64 | position`, big-endian. These three fields are the layout, which
/// programs of several versions share, so there will be no fourth one.
///
/// ```
/// use bytes::Bytes;
/// use terrace_tier::{Watermark, Version};
///
/// let position = Bytes::from_static(b"740:740:");
/// let watermark = Watermark { relay: 7, version: Version::from_u64(42), position };
/// assert_eq!(Watermark::decode(&watermark.encode()), Some(watermark));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The random number of the relay that wrote it, which distinguishes relays.
    pub relay: u64,
    /// Every change that the source had committed before the watermark's cell got this version was
    /// dropped by the step that wrote these bytes, or earlier. [`Version::NONE`] proves nothing.
    pub version: Version,
    /// The position in the source's log that follows the dropped changes: text without a zero byte.
    pub position: Bytes,
}

impl Watermark {
    /// The key of the watermark of `namespace`.
    pub fn key(namespace: &str) -> TierKey {
        let bytes = Bytes::copy_from_slice(namespace.as_bytes());
        TierKey { digest: key::key_digest(WATERMARKS, None, &bytes), bytes }
    }

    /// The namespace that holds the watermark of `cache`, in the same tier.
    pub fn namespace(cache: &Namespace) -> Namespace {
        Namespace::new(WATERMARKS, Role::Cache).with_budget(cache.budget)
    }

    /// The watermark as bytes.
    ///
    /// # Cost
    /// One allocation.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(HEADER_LEN + self.position.len());
        body.put_u64(self.relay);
        body.put_u64(self.version.as_u64());
        body.put_slice(&self.position);
        body.freeze()
    }

    /// The watermark in `body`, or `None` for bytes of another layout.
    ///
    /// Older programs wrote the position right after the relay. The two layouts cannot be confused: a
    /// position is text without a zero byte, and the first byte of a version is always zero.
    pub fn decode(body: &Bytes) -> Option<Self> {
        let (relay, rest) = body.split_first_chunk::<8>()?;
        let version = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        let known = version <= Version::MAX.as_u64();
        known.then(|| Self {
            relay: u64::from_be_bytes(*relay),
            version: Version::from_u64(version),
            position: body.slice(HEADER_LEN..),
        })
    }

    /// The version of the watermark in `body`, or `None` where it proves nothing. Tiers give it as
    /// [`Stored::watermark`](crate::Stored::watermark).
    pub fn version_in(body: &Bytes) -> Option<Version> {
        Self::decode(body).map(|watermark| watermark.version).filter(|version| *version != Version::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_older_programs_is_no_watermark() {
        let older = [&7u64.to_be_bytes()[..], b"7389012\n1\n2026-01-01\n740:740:"].concat();
        assert_eq!(Watermark::decode(&older.into()), None);
        for end in 0..HEADER_LEN {
            assert_eq!(Watermark::decode(&Bytes::from(vec![0; end])), None, "{end}");
        }
    }

    #[test]
    fn a_watermark_without_a_version_proves_nothing() {
        let body = |version| Watermark { relay: 1, version, position: Bytes::new() }.encode();
        assert_eq!(Watermark::version_in(&body(Version::NONE)), None);
        assert_eq!(Watermark::version_in(&body(Version::MAX)), Some(Version::MAX));
    }
}
