//! A [`Digest`](super::Digest) hashes the canonical form of a value. A letter that names the kind of a
//! part precedes each part, so that two different values never give the same bytes.
//!
//! The bytes of postcard would not be enough, since they hold no names: `{a: 1}` and `{b: 1}` of a type
//! that skips absent fields are the same bytes, and so are the text `x` and the list `[120]` of an
//! untagged enum.

use std::fmt;

use serde::{Serialize, ser};
use sha2::{Digest as _, Sha256};

use super::serializer::{Kind, Parts, Serializer, Sink};

type Result<T = (), E = NoDigest> = std::result::Result<T, E>;

/// How deep a value may nest.
const MAX_DEPTH: u8 = 128;

/// Computes SHA-256 over the canonical form of `value`.
pub(super) fn sha256<T: Serialize + ?Sized>(value: &T) -> Result<[u8; 32]> {
    digest(value, 0)
}

fn digest<T: Serialize + ?Sized>(value: &T, depth: u8) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    value.serialize(Serializer(Canonical { hasher: &mut hasher, depth }))?;
    Ok(hasher.finalize().into())
}

/// Why a value has no digest.
#[derive(Debug)]
pub(super) struct NoDigest(String);

impl fmt::Display for NoDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value has no digest: {}", self.0)
    }
}

impl std::error::Error for NoDigest {}

impl ser::Error for NoDigest {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Hashes one value, or the parts of a value up to an end letter that no part begins with.
struct Canonical<'a> {
    hasher: &'a mut Sha256,
    depth: u8,
}

impl Canonical<'_> {
    /// Hashes bytes whose number follows from the kind of the value.
    fn fixed(self, kind: u8, bytes: &[u8]) -> Result {
        self.hasher.update([kind]);
        self.hasher.update(bytes);
        Ok(())
    }

    /// Hashes the number of bytes and then the bytes.
    fn sized(&mut self, kind: u8, bytes: &[u8]) {
        self.hasher.update([kind]);
        self.hasher.update((bytes.len() as u64).to_be_bytes());
        self.hasher.update(bytes);
    }

    fn variant(&mut self, name: &str) {
        self.sized(b'v', name.as_bytes());
    }

    fn deeper(self) -> Result<Self> {
        if self.depth >= MAX_DEPTH {
            return Err(NoDigest(format!("it nests deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'a> Sink for Canonical<'a> {
    type Error = NoDigest;
    type Parts = Self;
    type Entries = Entries<'a>;

    fn u8(self, value: u8) -> Result {
        self.i128(value.into())
    }

    fn i64(self, value: i64) -> Result {
        self.i128(value.into())
    }

    fn u64(self, value: u64) -> Result {
        self.i128(value.into())
    }

    fn i128(self, value: i128) -> Result {
        self.fixed(b'i', &value.to_be_bytes())
    }

    fn u128(self, value: u128) -> Result {
        match i128::try_from(value) {
            Ok(value) => self.i128(value),
            Err(_) => self.fixed(b'u', &value.to_be_bytes()),
        }
    }

    fn f32(self, value: f32) -> Result {
        self.fixed(b'f', &value.to_be_bytes())
    }

    fn f64(self, value: f64) -> Result {
        self.fixed(b'd', &value.to_be_bytes())
    }

    fn bool(self, value: bool) -> Result {
        self.fixed(b'b', &[value.into()])
    }

    fn char(self, value: char) -> Result {
        self.fixed(b'c', &u32::from(value).to_be_bytes())
    }

    fn text(mut self, value: &str) -> Result {
        self.sized(b't', value.as_bytes());
        Ok(())
    }

    fn bytes(mut self, value: &[u8]) -> Result {
        self.sized(b'y', value);
        Ok(())
    }

    fn unit(self) -> Result {
        self.fixed(b'0', &[])
    }

    fn none(self) -> Result {
        self.fixed(b'n', &[])
    }

    fn some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        let inner = self.deeper()?;
        inner.hasher.update(b"s");
        value.serialize(Serializer(inner))
    }

    fn newtype<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(Serializer(self.deeper()?))
    }

    fn unit_variant(mut self, variant: &'static str) -> Result {
        self.variant(variant);
        self.unit()
    }

    fn newtype_variant<T: Serialize + ?Sized>(mut self, variant: &'static str, value: &T) -> Result {
        self.variant(variant);
        value.serialize(Serializer(self.deeper()?))
    }

    fn open(mut self, kind: Kind, variant: Option<&'static str>) -> Result<Self> {
        if let Some(name) = variant {
            self.variant(name);
        }
        let inner = self.deeper()?;
        inner.hasher.update(match kind {
            Kind::Sequence => b"[",
            Kind::Tuple | Kind::TupleStruct => b"(",
            Kind::Struct => b"{",
        });
        Ok(inner)
    }

    fn open_map(self) -> Result<Entries<'a>> {
        let inner = self.deeper()?;
        Ok(Entries { hasher: inner.hasher, depth: inner.depth, key: [0; 32], entries: Vec::new() })
    }
}

impl Parts for Canonical<'_> {
    type Error = NoDigest;

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        value.serialize(Serializer(Canonical { hasher: self.hasher, depth: self.depth }))
    }

    fn tuple_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.element(value)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: Option<&'static str>, value: &T) -> Result {
        if let Some(name) = name {
            self.sized(b':', name.as_bytes());
        }
        self.element(value)
    }

    fn close(self) -> Result {
        self.hasher.update(b".");
        Ok(())
    }
}

/// The entries of a map. Each entry is a digest of its own, so that the entries can be sorted.
struct Entries<'a> {
    hasher: &'a mut Sha256,
    depth: u8,
    key: [u8; 32],
    entries: Vec<[u8; 64]>,
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = NoDigest;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        self.key = digest(key, self.depth)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        let mut entry = [0; 64];
        entry[..32].copy_from_slice(&self.key);
        entry[32..].copy_from_slice(&digest(value, self.depth)?);
        self.entries.push(entry);
        Ok(())
    }

    fn end(mut self) -> Result {
        self.entries.sort_unstable();
        self.hasher.update(b"m");
        self.hasher.update((self.entries.len() as u64).to_be_bytes());
        self.entries.iter().for_each(|entry| self.hasher.update(entry));
        Ok(())
    }
}
