//! A probe of one part of a type is a deserializer that follows a path of children to the part, notes
//! what serde asks for there, and stops.
//!
//! The probe gives a struct only the field on the path, so that a field which refuses all samples hides
//! no other field.

use std::{any::type_name, cell::RefCell};

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Visitor, value::BorrowedStrDeserializer,
};

use super::MAX_ELEMENTS;
use super::dummy::{Dummy, SAMPLES};
use super::stop::Stop;
use crate::key::NamedVariant;

/// The part at the end of a path.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The kind, lengths and names of the part, as bytes to hash.
    pub(super) description: Vec<u8>,
    pub(super) children: usize,
    /// Whether the form of the part depends on the value.
    pub(super) is_any: bool,
    /// Whether the part contains a part that cannot be probed.
    pub(super) is_cut: bool,
}

impl Found {
    fn new(kind: &str) -> Self {
        Self { description: kind.as_bytes().to_vec(), ..Self::default() }
    }

    fn of_len(kind: &str, len: usize) -> Self {
        let mut found = Self::new(kind);
        found.description.extend_from_slice(&(len as u64).to_be_bytes());
        found.children = len.min(MAX_ELEMENTS);
        found.is_cut = len > MAX_ELEMENTS;
        found
    }

    fn of_names(kind: &str, names: &[&str]) -> Self {
        let mut found = Self::new(kind);
        for name in names {
            found.description.extend_from_slice(&(name.len() as u64).to_be_bytes());
            found.description.extend_from_slice(name.as_bytes());
        }
        found.children = names.len();
        found
    }

    fn with_children(self, children: usize) -> Self {
        Self { children, ..self }
    }
}

/// Probes the part of `V` at `path`.
pub(super) fn at<V: DeserializeOwned>(path: &[usize]) -> Found {
    for sample in 0..SAMPLES {
        let notes = Notes::default();
        // The result of the deserialisation is ignored, because a probe ends with an error, unless the
        // type ignores the error.
        let _ = V::deserialize(Probe { path, sample, notes: &notes });
        if let Some(found) = notes.found.into_inner() {
            return found;
        }
    }
    Found { is_cut: true, ..Found::new("refused") }
}

#[derive(Default)]
struct Notes {
    found: RefCell<Option<Found>>,
    /// The types of the visitors on the path, by which a type that contains itself is recognised.
    passed: RefCell<Vec<&'static str>>,
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    path: &'a [usize],
    sample: usize,
    notes: &'a Notes,
}

impl Probe<'_> {
    /// Returns the next child on the path. At the end of the path, notes the part and stops.
    fn child_of(self, found: impl FnOnce() -> Found) -> Result<(usize, Self), Stop> {
        let Some((child, path)) = self.path.split_first() else {
            self.notes.found.borrow_mut().get_or_insert_with(found);
            return Err(Stop::default());
        };
        Ok((*child, Self { path, ..self }))
    }

    /// Returns the next child like `child_of`, for a part that may contain itself. `V` identifies the
    /// part's type.
    fn child_of_type<V>(self, found: impl FnOnce() -> Found) -> Result<(usize, Self), Stop> {
        let name = type_name::<V>();
        let again = self.notes.passed.borrow().iter().rev().position(|passed| *passed == name);
        let child = self.child_of(|| match again {
            Some(levels) => Found::of_len("itself", levels + 1).with_children(0),
            None => found(),
        })?;
        self.notes.passed.borrow_mut().push(name);
        Ok(child)
    }

    fn sample(self) -> Dummy {
        Dummy::new(self.sample)
    }

    fn tuple<'de, V: Visitor<'de>>(self, kind: &str, len: usize, visitor: V) -> Result<V::Value, Stop> {
        let (before, part) = self.child_of_type::<V>(|| Found::of_len(kind, len))?;
        visitor.visit_seq(Elements::new(before, part))
    }

    fn fields<'de, V: Visitor<'de>>(
        self,
        kind: &str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let (child, part) = self.child_of_type::<V>(|| Found::of_names(kind, fields))?;
        let name = fields.get(child).copied();
        visitor.visit_map(Field { name, part: Some(part) })
    }
}

macro_rules! leaves {
    ($($method:ident $kind:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            self.child_of(|| Found::new($kind)).and(Err(Stop::default()))
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    leaves! {
        deserialize_bool "bool";
        deserialize_i8 "i8";
        deserialize_i16 "i16";
        deserialize_i32 "i32";
        deserialize_i64 "i64";
        deserialize_i128 "i128";
        deserialize_u8 "u8";
        deserialize_u16 "u16";
        deserialize_u32 "u32";
        deserialize_u64 "u64";
        deserialize_u128 "u128";
        deserialize_f32 "f32";
        deserialize_f64 "f64";
        deserialize_char "char";
        deserialize_str "text";
        deserialize_string "text";
        deserialize_bytes "bytes";
        deserialize_byte_buf "bytes";
        deserialize_unit "unit";
        deserialize_identifier "identifier";
        deserialize_ignored_any "ignored";
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.child_of(|| Found { is_any: true, ..Found::new("any") }).and(Err(Stop::default()))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    /// A newtype has the bytes of its content, so a newtype is not a part of its own.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let (_, part) = self.child_of_type::<V>(|| Found::new("option").with_children(1))?;
        visitor.visit_some(part)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let (_, part) = self.child_of_type::<V>(|| Found::new("seq").with_children(1))?;
        visitor.visit_seq(Elements::new(0, part))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.tuple("tuple", len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.tuple("tuple", len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let (child, part) = self.child_of_type::<V>(|| Found::new("map").with_children(2))?;
        let key = (child > 0).then(|| part.sample());
        visitor.visit_map(Entry { key, part: Some(part) })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.fields("struct", fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let (child, content) = self.child_of_type::<V>(|| Found::of_names("enum", variants))?;
        let name = variants.get(child).ok_or_else(Stop::default)?;
        visitor.visit_enum(NamedVariant { name, content })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence: samples, and as the last one the probed element. Without a last element,
/// a type that ignores the stop would ask for elements without end.
struct Elements<'a> {
    before: usize,
    sample: Dummy,
    part: Option<Probe<'a>>,
}

impl<'a> Elements<'a> {
    fn new(before: usize, part: Probe<'a>) -> Self {
        Self { before, sample: part.sample(), part: Some(part) }
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        if let Some(before) = self.before.checked_sub(1) {
            self.before = before;
            return seed.deserialize(self.sample).map(Some);
        }
        self.part.take().map(|part| seed.deserialize(part)).transpose()
    }
}

/// The fields of a struct: only the probed field.
struct Field<'a> {
    name: Option<&'static str>,
    part: Option<Probe<'a>>,
}

impl<'de> de::MapAccess<'de> for Field<'_> {
    type Error = Stop;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let name = self.name.take().map(BorrowedStrDeserializer::<Stop>::new);
        name.map(|name| seed.deserialize(name)).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.part.take().ok_or_else(Stop::default)?)
    }
}

/// The entries of a map: only the entry whose key or value is probed.
struct Entry<'a> {
    /// The sample of the key, if the value is probed.
    key: Option<Dummy>,
    part: Option<Probe<'a>>,
}

impl<'de> de::MapAccess<'de> for Entry<'_> {
    type Error = Stop;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        if self.part.is_none() {
            return Ok(None);
        }
        match self.key {
            Some(key) => seed.deserialize(key).map(Some),
            None => self.part.take().map(|part| seed.deserialize(part)).transpose(),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.part.take().ok_or_else(Stop::default)?)
    }
}

impl<'de> de::VariantAccess<'de> for Probe<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.child_of(|| Found::new("unit variant")).and(Err(Stop::default()))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        let (_, part) = self.child_of(|| Found::new("newtype variant").with_children(1))?;
        seed.deserialize(part)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.tuple("tuple variant", len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.fields("struct variant", fields, visitor)
    }
}
