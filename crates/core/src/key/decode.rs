//! The decoder of keys works on a slice, never panics, and reads each value only within the value's own
//! bytes.

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Visitor};

use super::{KeyError, MAX_DEPTH, NamedVariant};

type Result<T, E = KeyError> = std::result::Result<T, E>;

/// Decodes the key whose encoded form is `bytes`.
pub(super) fn from_slice<'de, K: Deserialize<'de>>(bytes: &'de [u8]) -> Result<K> {
    K::deserialize(Decoder { bytes, depth: 0 })
}

/// The decoder of a value that has all of `bytes`.
struct Decoder<'de> {
    bytes: &'de [u8],
    depth: u8,
}

impl<'de> Decoder<'de> {
    fn array<const N: usize>(&self) -> Result<[u8; N]> {
        self.bytes.try_into().map_err(|_| KeyError::Malformed)
    }

    fn text(&self) -> Result<&'de str> {
        std::str::from_utf8(self.bytes).map_err(|_| KeyError::Malformed)
    }

    fn empty(&self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(KeyError::Malformed) }
    }

    /// The decoder of `bytes`, which are the content of this value.
    fn inner(&self, bytes: &'de [u8]) -> Result<Self> {
        if self.depth >= MAX_DEPTH {
            return Err(KeyError::TooDeep);
        }
        Ok(Self { bytes, depth: self.depth + 1 })
    }

    fn elements<V: Visitor<'de>>(self, run: Run, visitor: V) -> Result<V::Value> {
        let inner = self.inner(self.bytes)?;
        let mut elements = Elements { rest: inner.bytes, depth: inner.depth, run };
        let value = visitor.visit_seq(&mut elements)?;
        if elements.rest.is_empty() { Ok(value) } else { Err(KeyError::Malformed) }
    }
}

/// How the elements of a value are framed.
#[derive(Clone, Copy, PartialEq)]
enum Run {
    /// A length precedes each element.
    Never,
    /// A `u8` is one byte, and a length precedes every other element.
    OfBytes,
    /// Each element is one byte.
    Only,
}

struct Elements<'de> {
    rest: &'de [u8],
    depth: u8,
    run: Run,
}

impl<'de> Elements<'de> {
    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.rest.split_first().ok_or(KeyError::Malformed)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn prefixed(&mut self) -> Result<Decoder<'de>> {
        if self.run == Run::Only {
            return Err(KeyError::Malformed);
        }
        let (bytes, rest) = split_prefixed(self.rest)?;
        self.rest = rest;
        Ok(Decoder { bytes, depth: self.depth })
    }
}

/// Splits `bytes` into the value after the leading length, and the bytes after the value.
fn split_prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(KeyError::Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| KeyError::Malformed)?;
    rest.split_at_checked(length).ok_or(KeyError::Malformed)
}

impl<'de> de::SeqAccess<'de> for &mut Elements<'de> {
    type Error = KeyError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        seed.deserialize(Element { elements: self }).map(Some)
    }
}

/// An element whose type decides whether it is a byte of a run.
struct Element<'a, 'de> {
    elements: &'a mut Elements<'de>,
}

macro_rules! forward_element {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value> {
            self.elements.prefixed()?.$method($($name,)* visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Element<'_, 'de> {
    type Error = KeyError;

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.elements.run {
            Run::Never => self.elements.prefixed()?.deserialize_u8(visitor),
            Run::OfBytes | Run::Only => visitor.visit_u8(self.elements.byte()?),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        if self.elements.depth >= MAX_DEPTH {
            return Err(KeyError::TooDeep);
        }
        self.elements.depth += 1;
        let elements = self.elements;
        let value = visitor.visit_newtype_struct(Element { elements });
        elements.depth -= 1;
        value
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_element! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }
}

macro_rules! integers {
    ($($method:ident: $visit:ident($wide:ty),)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            visitor.$visit(<$wide>::from_be_bytes(self.array()?))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Decoder<'de> {
    type Error = KeyError;

    integers! {
        deserialize_i8: visit_i64(i64),
        deserialize_i16: visit_i64(i64),
        deserialize_i32: visit_i64(i64),
        deserialize_i64: visit_i64(i64),
        deserialize_i128: visit_i128(i128),
        deserialize_u8: visit_u64(u64),
        deserialize_u16: visit_u64(u64),
        deserialize_u32: visit_u64(u64),
        deserialize_u64: visit_u64(u64),
        deserialize_u128: visit_u128(u128),
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(KeyError::Any)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.bytes {
            [0] => visitor.visit_bool(false),
            [1] => visitor.visit_bool(true),
            _ => Err(KeyError::Malformed),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(KeyError::Float)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(KeyError::Float)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.bytes)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.bytes {
            [0] => visitor.visit_none(),
            [1, content @ ..] => visitor.visit_some(self.inner(content)?),
            _ => Err(KeyError::Malformed),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.empty()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self.inner(self.bytes)?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.elements(Run::OfBytes, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        // With a length before each element, the tuple would have more bytes than elements.
        let run = if self.bytes.len() == len { Run::Only } else { Run::Never };
        self.elements(run, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.elements(Run::Never, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(KeyError::Map)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.elements(Run::Never, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let (name, content) = split_prefixed(self.bytes)?;
        let name = std::str::from_utf8(name).map_err(|_| KeyError::Malformed)?;
        visitor.visit_enum(NamedVariant { name, content: self.inner(content)? })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(KeyError::Any)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl<'de> de::VariantAccess<'de> for Decoder<'de> {
    type Error = KeyError;

    fn unit_variant(self) -> Result<()> {
        self.empty()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.elements(Run::Never, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value> {
        self.elements(Run::Never, visitor)
    }
}
