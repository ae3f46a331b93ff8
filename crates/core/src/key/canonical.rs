//! The canonical form under a [`Digest`](super::Digest): each part begins with a letter that says
//! what it is, so that no two different values give the same bytes.
//!
//! postcard's bytes would not do: without names, `{a: 1}` and `{b: 1}` of a type that skips absent
//! fields are the same bytes, and so are the text `x` and the list `[120]` of an untagged enum.

use std::fmt;

use serde::{Serialize, ser};
use sha2::{Digest as _, Sha256};

type Result<T = (), E = Refused> = std::result::Result<T, E>;

/// How deep a value may nest.
const MAX_DEPTH: u8 = 128;

/// SHA-256 over the canonical form of `value`.
pub(super) fn sha256<T: Serialize + ?Sized>(value: &T) -> Result<[u8; 32]> {
    digest(value, 0)
}

fn digest<T: Serialize + ?Sized>(value: &T, depth: u8) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    value.serialize(Canonical { hasher: &mut hasher, depth })?;
    Ok(hasher.finalize().into())
}

/// Why a value has no digest.
#[derive(Debug)]
pub(super) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value has no digest: {}", self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Canonical<'a> {
    hasher: &'a mut Sha256,
    depth: u8,
}

impl<'a> Canonical<'a> {
    fn fixed(self, kind: u8, bytes: &[u8]) -> Result {
        self.hasher.update([kind]);
        self.hasher.update(bytes);
        Ok(())
    }

    fn sized(self, kind: u8, bytes: &[u8]) -> Result {
        write_sized(self.hasher, kind, bytes);
        Ok(())
    }

    fn deeper(self) -> Result<Self> {
        if self.depth >= MAX_DEPTH {
            return Err(Refused(format!("it nests deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn open(self, kind: u8) -> Result<Parts<'a>> {
        let inner = self.deeper()?;
        inner.hasher.update([kind]);
        Ok(Parts { hasher: inner.hasher, depth: inner.depth })
    }

    fn open_variant(self, variant: &str, kind: u8) -> Result<Parts<'a>> {
        write_sized(self.hasher, b'v', variant.as_bytes());
        self.open(kind)
    }
}

fn write_sized(hasher: &mut Sha256, kind: u8, bytes: &[u8]) {
    hasher.update([kind]);
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

/// The parts of a value, up to its end mark (no part begins with it).
struct Parts<'a> {
    hasher: &'a mut Sha256,
    depth: u8,
}

impl Parts<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        value.serialize(Canonical { hasher: self.hasher, depth: self.depth })
    }

    fn named<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result {
        write_sized(self.hasher, b':', name.as_bytes());
        self.part(value)
    }

    fn close(self) -> Result {
        self.hasher.update(b".");
        Ok(())
    }
}

/// The entries of a map, each a digest of its own, so that they can be sorted.
struct Entries<'a> {
    hasher: &'a mut Sha256,
    depth: u8,
    key: [u8; 32],
    entries: Vec<[u8; 64]>,
}

macro_rules! integers {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result {
            self.serialize_i128(value.into())
        }
    )*};
}

impl<'a> ser::Serializer for Canonical<'a> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    integers! {
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
    }

    fn serialize_i128(self, value: i128) -> Result {
        self.fixed(b'i', &value.to_be_bytes())
    }

    fn serialize_u128(self, value: u128) -> Result {
        match i128::try_from(value) {
            Ok(value) => self.serialize_i128(value),
            Err(_) => self.fixed(b'u', &value.to_be_bytes()),
        }
    }

    fn serialize_bool(self, value: bool) -> Result {
        self.fixed(b'b', &[value.into()])
    }

    fn serialize_f32(self, value: f32) -> Result {
        self.fixed(b'f', &value.to_be_bytes())
    }

    fn serialize_f64(self, value: f64) -> Result {
        self.fixed(b'd', &value.to_be_bytes())
    }

    fn serialize_char(self, value: char) -> Result {
        self.fixed(b'c', &u32::from(value).to_be_bytes())
    }

    fn serialize_str(self, value: &str) -> Result {
        self.sized(b't', value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result {
        self.sized(b'y', value)
    }

    fn serialize_none(self) -> Result {
        self.fixed(b'n', &[])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        let inner = self.deeper()?;
        inner.hasher.update(b"s");
        value.serialize(inner)
    }

    fn serialize_unit(self) -> Result {
        self.fixed(b'0', &[])
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        write_sized(self.hasher, b'v', variant.as_bytes());
        self.serialize_unit()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self.deeper()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        write_sized(self.hasher, b'v', variant.as_bytes());
        value.serialize(self.deeper()?)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>> {
        self.open(b'[')
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>> {
        self.open(b'(')
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>> {
        self.open(b'(')
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>> {
        self.open_variant(variant, b'(')
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>> {
        let inner = self.deeper()?;
        Ok(Entries { hasher: inner.hasher, depth: inner.depth, key: [0; 32], entries: Vec::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>> {
        self.open(b'{')
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>> {
        self.open_variant(variant, b'{')
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($trait:ident $method:ident;)*) => {$(
        impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
                self.part(value)
            }

            fn end(self) -> Result {
                self.close()
            }
        }
    )*};
}

parts! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        self.named(name, value)
    }

    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeStructVariant for Parts<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        self.named(name, value)
    }

    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Refused;

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
