//! The deserializer of samples gives a plain value for every part of a type, so that a probe can go past
//! the part.

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};

use super::stop::Stop;
use crate::key::NamedVariant;

/// How many kinds of samples there are.
pub(in crate::codec) const SAMPLES: usize = 6;

/// How deep a sample may nest.
const MAX_DEPTH: usize = 32;

pub(in crate::codec) const NUMBERS: [u8; SAMPLES] = [0, 1, 1, 1, 2, 0];
pub(in crate::codec) const TEXTS: [&str; SAMPLES] = ["", "a", "1", "1970-01-01T00:00:00Z", "127.0.0.1", "a"];
/// The byte strings of the samples have the lengths of UUIDs, digests and addresses, and one has no
/// bytes.
pub(in crate::codec) const BYTES: [&[u8]; SAMPLES] = [&[0; 16], &[0; 16], &[0; 32], &[0; 4], &[], &[0; 32]];

/// A sample of one kind. The kinds differ in numbers, texts, lengths and variants, since a type may refuse
/// zero or the empty text.
#[derive(Clone, Copy)]
pub(super) struct Dummy {
    kind: usize,
    depth: usize,
}

impl Dummy {
    pub(super) fn new(kind: usize) -> Self {
        Self { kind, depth: 0 }
    }

    fn deeper(self) -> Result<Self, Stop> {
        if self.depth < MAX_DEPTH { Ok(Self { depth: self.depth + 1, ..self }) } else { Err(Stop::default()) }
    }

    fn elements(self, len: usize) -> Result<Elements, Stop> {
        Ok(Elements { sample: self.deeper()?, left: len })
    }
}

macro_rules! samples {
    ($($method:ident => $visit:ident($table:ident);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            visitor.$visit($table[self.kind].into())
        }
    )*};
}

impl<'de> Deserializer<'de> for Dummy {
    type Error = Stop;

    samples! {
        deserialize_i8 => visit_i64(NUMBERS);
        deserialize_i16 => visit_i64(NUMBERS);
        deserialize_i32 => visit_i64(NUMBERS);
        deserialize_i64 => visit_i64(NUMBERS);
        deserialize_i128 => visit_i128(NUMBERS);
        deserialize_u8 => visit_u8(NUMBERS);
        deserialize_u16 => visit_u64(NUMBERS);
        deserialize_u32 => visit_u64(NUMBERS);
        deserialize_u64 => visit_u64(NUMBERS);
        deserialize_u128 => visit_u128(NUMBERS);
        deserialize_f32 => visit_f32(NUMBERS);
        deserialize_f64 => visit_f64(NUMBERS);
        deserialize_str => visit_borrowed_str(TEXTS);
        deserialize_string => visit_borrowed_str(TEXTS);
        deserialize_identifier => visit_borrowed_str(TEXTS);
        deserialize_bytes => visit_borrowed_bytes(BYTES);
        deserialize_byte_buf => visit_borrowed_bytes(BYTES);
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_bool(self.kind % 2 == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_char('a')
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self.deeper()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(self.elements(0)?)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(self.elements(len)?)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_seq(self.elements(len)?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_map(self.elements(0)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_seq(self.elements(fields.len())?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let last = variants.len().checked_sub(1).ok_or_else(Stop::default)?;
        let name = if self.kind + 1 == SAMPLES { variants[last] } else { variants[self.kind.min(last)] };
        visitor.visit_enum(NamedVariant { name, content: self.deeper()? })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Elements {
    sample: Dummy,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.sample).map(Some)
    }
}

/// A sample of a map, which has no entries.
impl<'de> de::MapAccess<'de> for Elements {
    type Error = Stop;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, _: T) -> Result<Option<T::Value>, Stop> {
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, _: T) -> Result<T::Value, Stop> {
        Err(Stop::default())
    }
}

impl<'de> de::VariantAccess<'de> for Dummy {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
