//! The format of keys and the canonical form of digests share one serde serializer. This serializer
//! reduces the thirty methods of serde to the few that differ between the two formats.

use serde::{Serialize, ser};

/// What a format does with one value.
pub(super) trait Sink: Sized {
    type Error: ser::Error;
    type Parts: Parts<Error = Self::Error>;
    type Entries: ser::SerializeMap<Ok = (), Error = Self::Error>;

    fn u8(self, value: u8) -> Result<(), Self::Error>;
    fn i64(self, value: i64) -> Result<(), Self::Error>;
    fn u64(self, value: u64) -> Result<(), Self::Error>;
    fn i128(self, value: i128) -> Result<(), Self::Error>;
    fn u128(self, value: u128) -> Result<(), Self::Error>;
    fn f32(self, value: f32) -> Result<(), Self::Error>;
    fn f64(self, value: f64) -> Result<(), Self::Error>;
    fn bool(self, value: bool) -> Result<(), Self::Error>;
    fn char(self, value: char) -> Result<(), Self::Error>;
    fn text(self, value: &str) -> Result<(), Self::Error>;
    fn bytes(self, value: &[u8]) -> Result<(), Self::Error>;
    fn unit(self) -> Result<(), Self::Error>;
    fn none(self) -> Result<(), Self::Error>;
    fn some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Self::Error>;
    fn newtype<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Self::Error>;

    fn unit_variant(self, variant: &'static str) -> Result<(), Self::Error>;
    fn newtype_variant<T: Serialize + ?Sized>(
        self,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Self::Error>;

    /// Begins a value that has parts, as the content of `variant` if there is one.
    fn open(self, kind: Kind, variant: Option<&'static str>) -> Result<Self::Parts, Self::Error>;
    fn open_map(self) -> Result<Self::Entries, Self::Error>;
}

/// The kinds of values that have parts.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Sequence,
    Tuple,
    /// A tuple struct, or a tuple variant.
    TupleStruct,
    /// A struct, or a struct variant.
    Struct,
}

/// What a format does with the parts of a value.
pub(super) trait Parts {
    type Error: ser::Error;

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error>;
    fn tuple_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error>;
    /// Writes a field of a struct, which has a name, or of a tuple struct, which has none.
    fn field<T: Serialize + ?Sized>(
        &mut self,
        name: Option<&'static str>,
        value: &T,
    ) -> Result<(), Self::Error>;
    fn close(self) -> Result<(), Self::Error>;
}

/// The serde serializer over a [`Sink`].
pub(super) struct Serializer<S>(pub(super) S);

/// The serde serializer of parts over [`Parts`].
pub(super) struct Compound<P>(P);

/// Each line of the macro defines one serde method by its arguments and the call of the sink.
macro_rules! values {
    ($($method:ident($($argument:ident: $type:ty),*) => $sink:ident($($value:expr),*);)*) => {$(
        fn $method(self, $($argument: $type),*) -> Result<(), S::Error> {
            self.0.$sink($($value),*)
        }
    )*};
}

macro_rules! opens {
    ($($method:ident($($argument:ident: $type:ty),*) => $kind:ident, $variant:expr;)*) => {$(
        fn $method(self, $($argument: $type),*) -> Result<Compound<S::Parts>, S::Error> {
            self.0.open(Kind::$kind, $variant).map(Compound)
        }
    )*};
}

impl<S: Sink> ser::Serializer for Serializer<S> {
    type Ok = ();
    type Error = S::Error;
    type SerializeSeq = Compound<S::Parts>;
    type SerializeTuple = Compound<S::Parts>;
    type SerializeTupleStruct = Compound<S::Parts>;
    type SerializeTupleVariant = Compound<S::Parts>;
    type SerializeMap = S::Entries;
    type SerializeStruct = Compound<S::Parts>;
    type SerializeStructVariant = Compound<S::Parts>;

    values! {
        serialize_i8(value: i8) => i64(value.into());
        serialize_i16(value: i16) => i64(value.into());
        serialize_i32(value: i32) => i64(value.into());
        serialize_i64(value: i64) => i64(value);
        serialize_i128(value: i128) => i128(value);
        serialize_u8(value: u8) => u8(value);
        serialize_u16(value: u16) => u64(value.into());
        serialize_u32(value: u32) => u64(value.into());
        serialize_u64(value: u64) => u64(value);
        serialize_u128(value: u128) => u128(value);
        serialize_f32(value: f32) => f32(value);
        serialize_f64(value: f64) => f64(value);
        serialize_bool(value: bool) => bool(value);
        serialize_char(value: char) => char(value);
        serialize_str(value: &str) => text(value);
        serialize_bytes(value: &[u8]) => bytes(value);
        serialize_none() => none();
        serialize_unit() => unit();
        serialize_unit_struct(_name: &'static str) => unit();
        serialize_unit_variant(_name: &'static str, _index: u32, variant: &'static str) => unit_variant(variant);
    }

    opens! {
        serialize_seq(_len: Option<usize>) => Sequence, None;
        serialize_tuple(_len: usize) => Tuple, None;
        serialize_tuple_struct(_name: &'static str, _len: usize) => TupleStruct, None;
        serialize_tuple_variant(_name: &'static str, _index: u32, variant: &'static str, _len: usize)
            => TupleStruct, Some(variant);
        serialize_struct(_name: &'static str, _len: usize) => Struct, None;
        serialize_struct_variant(_name: &'static str, _index: u32, variant: &'static str, _len: usize)
            => Struct, Some(variant);
    }

    fn serialize_map(self, _: Option<usize>) -> Result<S::Entries, S::Error> {
        self.0.open_map()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), S::Error> {
        self.0.some(value)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        self.0.newtype(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        self.0.newtype_variant(variant, value)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Each line of the macro implements one serde trait of parts by its method and the call of the parts.
macro_rules! compounds {
    ($($trait:ident $method:ident($($name:ident: $type:ty)?) => $parts:ident($($field:expr)?);)*) => {$(
        impl<P: Parts> ser::$trait for Compound<P> {
            type Ok = ();
            type Error = P::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), P::Error> {
                self.0.$parts($($field,)? value)
            }

            fn end(self) -> Result<(), P::Error> {
                self.0.close()
            }
        }
    )*};
}

compounds! {
    SerializeSeq serialize_element() => element();
    SerializeTuple serialize_element() => tuple_element();
    SerializeTupleStruct serialize_field() => field(None);
    SerializeTupleVariant serialize_field() => field(None);
    SerializeStruct serialize_field(name: &'static str) => field(Some(name));
    SerializeStructVariant serialize_field(name: &'static str) => field(Some(name));
}
