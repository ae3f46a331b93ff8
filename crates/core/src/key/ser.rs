//! Encoding of keys.

use serde::{Serialize, ser};

use super::{KeyError, MAX_DEPTH, MAX_KEY_BYTES};

type Result<T = (), E = KeyError> = std::result::Result<T, E>;

/// Appends the bytes of `key`.
pub(super) fn write<K: Serialize + ?Sized>(key: &K, out: &mut Vec<u8>) -> Result {
    key.serialize(Encoder { out, place: Place::Whole, depth: 0 })
}

/// Where a value stands, which decides whether its length goes before it.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The rest of the bytes is its own.
    Whole,
    /// An element: its length goes first.
    Element,
    /// An element of what may be a run of bytes: a `u8` is one byte, all else as `Element`.
    Run,
}

struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    place: Place,
    depth: u8,
}

impl<'a> Encoder<'a> {
    /// Writes a value of known bytes.
    fn put(self, bytes: &[u8]) -> Result {
        if self.place != Place::Whole {
            // At most `MAX_KEY_BYTES` fit, so a longer length is never kept.
            push(self.out, &(bytes.len() as u32).to_be_bytes())?;
        }
        push(self.out, bytes)
    }

    /// Starts a value whose length is known at its end.
    fn open(self) -> Result<Open<'a>> {
        if self.depth >= MAX_DEPTH {
            return Err(KeyError::TooDeep);
        }
        let prefixed = self.place != Place::Whole;
        if prefixed {
            push(self.out, &[0; 4])?;
        }
        let start = self.out.len();
        Ok(Open { out: self.out, start, prefixed, depth: self.depth + 1, run: None })
    }

    fn open_variant(self, name: &'static str) -> Result<Open<'a>> {
        let open = self.open()?;
        push(open.out, &(name.len() as u32).to_be_bytes())?;
        push(open.out, name.as_bytes())?;
        Ok(open)
    }
}

/// A value that is being written.
struct Open<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    prefixed: bool,
    depth: u8,
    /// For a tuple while all its elements were `u8`: how many. `None` for what is never a run.
    run: Option<usize>,
}

impl Open<'_> {
    fn child(&mut self, place: Place) -> Encoder<'_> {
        Encoder { out: self.out, place, depth: self.depth }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T, place: Place) -> Result {
        value.serialize(self.child(place))
    }

    /// An element of a tuple: one byte while everything before it was a `u8` too.
    fn tuple_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        let Some(count) = self.run else { return self.element(value, Place::Element) };
        let before = self.out.len();
        self.element(value, Place::Run)?;
        if self.out.len() == before + 1 {
            self.run = Some(count + 1);
            return Ok(());
        }
        // Not a run of bytes after all: what was written as bytes becomes integers.
        self.run = None;
        let integers: Vec<u8> = self.out[self.start..before]
            .iter()
            .flat_map(|byte| [8_u32.to_be_bytes().as_slice(), &u64::from(*byte).to_be_bytes()].concat())
            .collect();
        if self.out.len() - count + integers.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong);
        }
        self.out.splice(self.start..before, integers);
        Ok(())
    }

    fn close(self) -> Result {
        if self.prefixed {
            let length = (self.out.len() - self.start) as u32;
            self.out[self.start - 4..self.start].copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) -> Result {
    if out.len() + bytes.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

macro_rules! integers {
    ($($method:ident: $type:ty as $wide:ty,)*) => {$(
        fn $method(self, value: $type) -> Result {
            self.put(&<$wide>::from(value).to_be_bytes())
        }
    )*};
}

impl<'a> ser::Serializer for Encoder<'a> {
    type Ok = ();
    type Error = KeyError;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = ser::Impossible<(), KeyError>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    integers! {
        serialize_i8: i8 as i64,
        serialize_i16: i16 as i64,
        serialize_i32: i32 as i64,
        serialize_i64: i64 as i64,
        serialize_i128: i128 as i128,
        serialize_u16: u16 as u64,
        serialize_u32: u32 as u64,
        serialize_u64: u64 as u64,
        serialize_u128: u128 as u128,
    }

    fn serialize_u8(self, value: u8) -> Result {
        match self.place {
            Place::Run => push(self.out, &[value]),
            Place::Whole | Place::Element => self.serialize_u64(value.into()),
        }
    }

    fn serialize_bool(self, value: bool) -> Result {
        self.put(&[u8::from(value)])
    }

    fn serialize_char(self, value: char) -> Result {
        self.put(value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    fn serialize_str(self, value: &str) -> Result {
        self.put(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result {
        self.put(value)
    }

    fn serialize_f32(self, _: f32) -> Result {
        Err(KeyError::Float)
    }

    fn serialize_f64(self, _: f64) -> Result {
        Err(KeyError::Float)
    }

    fn serialize_none(self) -> Result {
        self.put(&[0])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        let mut open = self.open()?;
        push(open.out, &[1])?;
        open.element(value, Place::Whole)?;
        open.close()
    }

    fn serialize_unit(self) -> Result {
        self.put(&[])
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        self.put(&[])
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        self.open_variant(variant)?.close()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        if self.depth >= MAX_DEPTH {
            return Err(KeyError::TooDeep);
        }
        value.serialize(Self { depth: self.depth + 1, ..self })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        let mut open = self.open_variant(variant)?;
        open.element(value, Place::Whole)?;
        open.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a>> {
        self.open()
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'a>> {
        Ok(Open { run: Some(0), ..self.open()? })
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open<'a>> {
        self.open()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'a>> {
        self.open_variant(variant)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        Err(KeyError::Map)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'a>> {
        self.open()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'a>> {
        self.open_variant(variant)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl ser::SerializeSeq for Open<'_> {
    type Ok = ();
    type Error = KeyError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.element(value, Place::Run)
    }

    fn end(self) -> Result {
        self.close()
    }
}

impl ser::SerializeTuple for Open<'_> {
    type Ok = ();
    type Error = KeyError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.tuple_element(value)
    }

    fn end(self) -> Result {
        self.close()
    }
}

macro_rules! fields {
    ($($trait:ident $method:ident ($($name:ident: $type:ty)?);)*) => {$(
        impl ser::$trait for Open<'_> {
            type Ok = ();
            type Error = KeyError;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result {
                self.element(value, Place::Element)
            }

            fn end(self) -> Result {
                self.close()
            }
        }
    )*};
}

fields! {
    SerializeTupleStruct serialize_field ();
    SerializeTupleVariant serialize_field ();
    SerializeStruct serialize_field (_name: &'static str);
    SerializeStructVariant serialize_field (_name: &'static str);
}
