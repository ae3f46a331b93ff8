//! The deserializer of samples that have content, and that note what a type asks for.

use std::{
    any::type_name,
    cell::{Cell, RefCell},
};

use serde::de::{self, DeserializeSeed, Deserializer, Visitor, value::BorrowedStrDeserializer};

use super::names::Names;
use crate::{
    codec::shape::{BYTES, NUMBERS, SAMPLES, Stop, TEXTS},
    key::NamedVariant,
};

/// How deep a sample nests.
const MAX_DEPTH: usize = 48;
/// The most parts of one sample.
const MAX_PARTS: usize = 10_000;

/// Which options, sequences and maps of a sample have content.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Content {
    None,
    Full,
    /// All but the one of this number.
    FullBut(usize),
}

/// A test whether `name` is an alias of the field `written` of `container`.
#[derive(Clone, Copy)]
pub(super) struct AliasTest {
    pub(super) container: &'static str,
    pub(super) written: &'static str,
    pub(super) name: &'static str,
}

/// What one sample has shown.
pub(super) struct Notes<'n> {
    sample: usize,
    names: &'n Names,
    alias: Option<AliasTest>,
    parts: Cell<usize>,
    variants: Cell<usize>,
    containers: Cell<usize>,
    /// The types around the part, by which a type that contains itself is recognised.
    around: RefCell<Vec<&'static str>>,
}

impl<'n> Notes<'n> {
    pub(super) fn new(sample: usize, names: &'n Names) -> Self {
        let [parts, variants, containers] = [0; 3].map(Cell::new);
        Self { sample, names, alias: None, parts, variants, containers, around: RefCell::default() }
    }

    pub(super) fn with_alias_test(self, test: AliasTest) -> Self {
        Self { alias: Some(test), ..self }
    }

    /// The most variants of an enum in the sample.
    pub(super) fn variants(&self) -> usize {
        self.variants.get()
    }

    /// The number of options, sequences and maps in the sample.
    pub(super) fn containers(&self) -> usize {
        self.containers.get()
    }
}

/// One part of a sample.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a> {
    kind: usize,
    content: Content,
    notes: &'a Notes<'a>,
    depth: usize,
    in_some: bool,
    variant: &'static str,
}

impl<'a> Sample<'a> {
    pub(super) fn new(kind: usize, content: Content, notes: &'a Notes<'a>) -> Self {
        Self { kind, content, notes, depth: 0, in_some: false, variant: "" }
    }

    fn deeper(self) -> Result<Self, Stop> {
        let parts = self.notes.parts.get() + 1;
        self.notes.parts.set(parts);
        if self.depth >= MAX_DEPTH || parts > MAX_PARTS {
            return Err(Stop::default());
        }
        Ok(Self { depth: self.depth + 1, in_some: false, ..self })
    }

    fn elements(self, left: usize) -> Result<Elements<'a>, Stop> {
        Ok(Elements { sample: self.deeper()?, left })
    }

    /// Runs `visit` within the type of visitor `V`. The flag says whether the type is around itself, where it
    /// ends without content.
    fn within<V, T>(self, visit: impl FnOnce(bool) -> Result<T, Stop>) -> Result<T, Stop> {
        let name = type_name::<V>();
        let is_again = self.notes.around.borrow().contains(&name);
        self.notes.around.borrow_mut().push(name);
        let visited = visit(is_again);
        self.notes.around.borrow_mut().pop();
        visited
    }

    fn has_content(self, is_again: bool) -> bool {
        let number = self.notes.containers.get();
        self.notes.containers.set(number + 1);
        !is_again && self.content != Content::None && self.content != Content::FullBut(number)
    }

    fn fields<'de, V: Visitor<'de>>(
        self,
        container: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.notes.names.note_read(container, fields, self.notes.sample);
        let test = self.notes.alias.filter(|test| test.container == container);
        self.within::<V, _>(|_| match test.filter(|test| fields.contains(&test.name)) {
            Some(test) => {
                let names = [test.written, test.name].into_iter();
                visitor.visit_map(Twice { names, sample: self.deeper()? })
            }
            None => visitor.visit_seq(self.elements(fields.len())?),
        })
    }
}

macro_rules! samples {
    ($($method:ident => $visit:ident($table:ident);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            visitor.$visit($table[self.kind % SAMPLES].into())
        }
    )*};
}

impl<'de> Deserializer<'de> for Sample<'_> {
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

    /// A part whose form depends on the value: a number, a text or a truth value. Nothing at all would be one
    /// of the few values that JSON loses.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.kind % 3 {
            0 => visitor.visit_u64(1),
            1 => visitor.visit_borrowed_str("a"),
            _ => visitor.visit_bool(true),
        }
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

    /// An option within an option has content in every other sample, since some formats lose it.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.within::<V, _>(|is_again| {
            if !self.has_content(is_again) || (self.in_some && self.kind % 2 == 1) {
                return visitor.visit_none();
            }
            visitor.visit_some(Self { in_some: true, ..self.deeper()? })
        })
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
        visitor.visit_newtype_struct(Self { in_some: self.in_some, ..self.deeper()? })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let elements = |is_again| self.elements(usize::from(self.has_content(is_again)));
        self.within::<V, _>(|is_again| visitor.visit_seq(elements(is_again)?))
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
        let elements = |is_again| self.elements(usize::from(self.has_content(is_again)));
        self.within::<V, _>(|is_again| visitor.visit_map(elements(is_again)?))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.fields(name, fields, visitor)
    }

    /// Each sample has another variant. An enum within itself goes on to its next variant, until one ends.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.notes.variants.set(self.notes.variants.get().max(variants.len()));
        let name = type_name::<V>();
        let around = self.notes.around.borrow().iter().filter(|known| **known == name).count();
        let at = (self.kind + around).checked_rem(variants.len()).ok_or_else(Stop::default)?;
        let variant = variants[at];
        self.within::<V, _>(|_| {
            visitor.visit_enum(NamedVariant { name: variant, content: Self { variant, ..self.deeper()? } })
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Elements<'a> {
    sample: Sample<'a>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.sample).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.sample)
    }
}

/// The two fields of an alias test.
struct Twice<'a> {
    names: std::array::IntoIter<&'static str, 2>,
    sample: Sample<'a>,
}

impl<'de> de::MapAccess<'de> for Twice<'_> {
    type Error = Stop;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let name = self.names.next().map(BorrowedStrDeserializer::<Stop>::new);
        name.map(|name| seed.deserialize(name)).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.sample)
    }
}

impl<'de> de::VariantAccess<'de> for Sample<'_> {
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
        self.fields(self.variant, fields, visitor)
    }
}
