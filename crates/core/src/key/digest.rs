//! Digests are keys for values that are too long to be keys.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::canonical;
use crate::{Error, ErrorKind, Result};

/// A digest of 32 bytes that stands for a value which is too long or too deep to be a key: a prompt, a
/// query, a document.
///
/// A digest is a key itself, whose bytes are the 32 bytes that SQL's `sha256` gives. A digest is small
/// and `Copy`. The value cannot be computed from its digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes SHA-256 over a canonical form of `value`, which names the kind of every part. Values
    /// that differ in a field, the name of a field, a variant, a length or a kind have different
    /// digests.
    ///
    /// Equal values of one type have equal digests if serde serialises them alike. The order of a map
    /// does not matter, so a `HashMap` is fine. The order of a sequence does matter, so equal `HashSet`s
    /// may have different digests: a read with such a digest may miss, but never gets another key's
    /// value. An integer counts by its value, not by its width. Names of types do not count, so two
    /// types with the same fields have the same digests.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Key`] if `value` refuses to be serialised or nests deeper than
    /// 128 levels.
    ///
    /// # Cost
    /// The call makes one pass of SHA-256. The digest of a map allocates 64 bytes for each entry, and no
    /// other value allocates.
    ///
    /// ```
    /// use terrace_core::key::Digest;
    ///
    /// let digest = Digest::of(&("llama", "Why is the sky blue?", 7))?;
    /// assert_ne!(digest, Digest::of(&("llama", "Why is the sky blue?", 8))?);
    /// # Ok::<(), terrace_core::Error>(())
    /// ```
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        canonical::sha256(value).map(Self).map_err(|cause| Error::new(ErrorKind::Key, cause.to_string()))
    }

    /// Makes a digest of its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Shows the digest in lower-case hex.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Writes the digest as 32 bytes, or as hex in human-readable formats.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(DigestVisitor)
        } else {
            deserializer.deserialize_bytes(DigestVisitor)
        }
    }
}

struct DigestVisitor;

impl de::Visitor<'_> for DigestVisitor {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest of 32 bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> std::result::Result<Digest, E> {
        bytes.try_into().map(Digest).map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Digest, E> {
        from_hex(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str("other text"), &self))
    }
}

fn from_hex(text: &str) -> Option<Digest> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(Digest(bytes))
}
