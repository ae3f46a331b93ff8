//! The recorder is a serializer that notes the names of fields and writes nothing.

use serde::ser::{self, Serialize, Serializer};

use super::names::{Names, Written, WrittenField};
use crate::codec::shape::Stop;

/// How deep a sample is recorded.
const MAX_DEPTH: usize = 128;

/// Records the fields of `value`. What the type's own code refuses is not recorded.
pub(super) fn record<V: Serialize + ?Sized>(value: &V, names: &Names) {
    let _ = value.serialize(Recorder { names, depth: 0 });
}

#[derive(Clone, Copy)]
struct Recorder<'n> {
    names: &'n Names,
    depth: usize,
}

/// The parts of a value whose fields are named, or have no names.
struct Parts<'n> {
    recorder: Recorder<'n>,
    container: &'static str,
}

impl<'n> Recorder<'n> {
    fn deeper(self) -> Result<Self, Stop> {
        let deeper = Self { depth: self.depth + 1, ..self };
        if deeper.depth < MAX_DEPTH { Ok(deeper) } else { Err(Stop::default()) }
    }

    fn parts(self, container: &'static str) -> Result<Parts<'n>, Stop> {
        Ok(Parts { recorder: self.deeper()?, container })
    }
}

impl Parts<'_> {
    fn part<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Stop> {
        value.serialize(self.recorder)
    }

    fn field<T: Serialize + ?Sized>(&self, field: &'static str, value: &T) -> Result<(), Stop> {
        let container = self.container;
        let is_tag = serde_json::to_value(value).is_ok_and(|value| value == container);
        let how = if is_tag { Written::Tag } else { Written::Value };
        self.recorder.names.note_written(WrittenField { container, field, how });
        self.part(value)
    }
}

macro_rules! leaves {
    ($($method:ident($($type:ty),*);)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<(), Stop> {
            Ok(())
        }
    )*};
}

macro_rules! opens {
    ($($method:ident($($type:ty),*) -> $parts:ident;)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<Self::$parts, Stop> {
            self.parts("")
        }
    )*};
}

impl<'n> Serializer for Recorder<'n> {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Parts<'n>;
    type SerializeTuple = Parts<'n>;
    type SerializeTupleStruct = Parts<'n>;
    type SerializeTupleVariant = Parts<'n>;
    type SerializeMap = Parts<'n>;
    type SerializeStruct = Parts<'n>;
    type SerializeStructVariant = Parts<'n>;

    leaves! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    opens! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'n>, Stop> {
        self.parts(name)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'n>, Stop> {
        self.parts(variant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(self.deeper()?)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Stop> {
        value.serialize(self.deeper()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        value.serialize(self.deeper()?)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($trait:ident $method:ident($($name:ident: $type:ty)?) => $part:ident;)*) => {$(
        impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), Stop> {
                self.$part($($name,)? value)
            }

            parts!(@skip $trait);

            fn end(self) -> Result<(), Stop> {
                Ok(())
            }
        }
    )*};
    (@skip SerializeStruct) => { parts!(@skip); };
    (@skip SerializeStructVariant) => { parts!(@skip); };
    (@skip) => {
        fn skip_field(&mut self, field: &'static str) -> Result<(), Stop> {
            let container = self.container;
            let how = Written::LeftOut;
            self.recorder.names.note_written(WrittenField { container, field, how });
            Ok(())
        }
    };
    (@skip $other:ident) => {};
}

parts! {
    SerializeSeq serialize_element() => part;
    SerializeTuple serialize_element() => part;
    SerializeTupleStruct serialize_field() => part;
    SerializeTupleVariant serialize_field() => part;
    SerializeStruct serialize_field(name: &'static str) => field;
    SerializeStructVariant serialize_field(name: &'static str) => field;
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        self.part(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.part(value)
    }

    fn end(self) -> Result<(), Stop> {
        Ok(())
    }
}
