//! The encoding side of the limits refuses to write a value that could not be read back.

use std::fmt::Display;

use serde::ser::{self, Error, Serialize, Serializer};

use super::{Breach, Guard};

/// A value that is serialised under a guard.
pub(in crate::codec) struct Guarded<'g, T: ?Sized> {
    value: &'g T,
    guard: &'g Guard,
    /// Whether the value is directly within a `Some`, where JSON cannot tell a unit from `None`.
    in_some: bool,
}

impl<'g, T: ?Sized> Guarded<'g, T> {
    pub(in crate::codec) fn new(value: &'g T, guard: &'g Guard) -> Self {
        Self { value, guard, in_some: false }
    }
}

impl<T: Serialize + ?Sized> Serialize for Guarded<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Limited { inner, guard: self.guard, in_some: self.in_some })
    }
}

struct Limited<'g, S> {
    inner: S,
    guard: &'g Guard,
    in_some: bool,
}

impl<'g, S> Limited<'g, S> {
    fn refuse_null<E: Error>(&self, is_null: bool) -> Result<(), E> {
        if is_null && self.guard.self_describing {
            return Err(failed(self.guard.report(Breach::Null)));
        }
        Ok(())
    }
}

fn failed<E: Error>(breach: Breach) -> E {
    E::custom(breach.as_str())
}

macro_rules! forward {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($name),*)
        }
    )*};
}

/// Serialises values that JSON writes as `null`. Within a `Some`, such a value would read back as
/// `None`.
macro_rules! nothing {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<S::Ok, S::Error> {
            self.refuse_null(self.in_some)?;
            self.inner.$method($($name),*)
        }
    )*};
}

macro_rules! open {
    ($($method:ident($($name:ident: $type:ty),*) -> $parts:ident, $count:expr;)*) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<Self::$parts, S::Error> {
            open(self.guard, $count, || self.inner.$method($($name),*))
        }
    )*};
}

impl<'g, S: Serializer> Serializer for Limited<'g, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'g, S::SerializeSeq>;
    type SerializeTuple = Parts<'g, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'g, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'g, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'g, S::SerializeMap>;
    type SerializeStruct = Parts<'g, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'g, S::SerializeStructVariant>;

    forward! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn serialize_f32(self, v: f32) -> Result<S::Ok, S::Error> {
        self.refuse_null(!v.is_finite())?;
        self.inner.serialize_f32(v)
    }

    #[inline]
    fn serialize_f64(self, v: f64) -> Result<S::Ok, S::Error> {
        self.refuse_null(!v.is_finite())?;
        self.inner.serialize_f64(v)
    }

    nothing! {
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.guard.nested(failed, || self.inner.serialize_unit_variant(name, index, variant))
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = Guarded { value, guard: self.guard, in_some: true };
        self.guard.nested(failed, || self.inner.serialize_some(&value))
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Guarded { value, guard: self.guard, in_some: self.in_some };
        self.guard.nested(failed, || self.inner.serialize_newtype_struct(name, &value))
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Guarded::new(value, self.guard);
        self.guard.nested(failed, || self.inner.serialize_newtype_variant(name, index, variant, &value))
    }

    open! {
        serialize_seq(len: Option<usize>) -> SerializeSeq, Count::of_elements(len);
        serialize_tuple(len: usize) -> SerializeTuple, FIELDS;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct, FIELDS;
        serialize_map(len: Option<usize>) -> SerializeMap, Count::of_elements(len);
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct, FIELDS;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant, VARIANT;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant, VARIANT;
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// How the parts of a value count towards the limits.
#[derive(Clone, Copy)]
struct Count {
    /// The levels of the value, as the decoding side counts them.
    levels: u32,
    /// The number of elements that is known at the start. Fields are not elements.
    elements: usize,
    /// Whether each element is counted when it is written.
    one_by_one: bool,
}

const FIELDS: Count = Count { levels: 1, elements: 0, one_by_one: false };
const VARIANT: Count = Count { levels: 2, elements: 0, one_by_one: false };

impl Count {
    fn of_elements(len: Option<usize>) -> Self {
        Self { levels: 1, elements: len.unwrap_or(0), one_by_one: len.is_none() }
    }
}

/// The parts of a value under a guard.
struct Parts<'g, P> {
    inner: P,
    guard: &'g Guard,
    count: Count,
}

#[inline]
fn open<P, E: Error>(
    guard: &Guard,
    count: Count,
    inner: impl FnOnce() -> Result<P, E>,
) -> Result<Parts<'_, P>, E> {
    for _ in 0..count.levels {
        guard.enter().map_err(failed)?;
    }
    guard.add_elements(count.elements).map_err(failed)?;
    Ok(Parts { inner: inner()?, guard, count })
}

impl<P> Parts<'_, P> {
    #[inline]
    fn close<T>(self, end: impl FnOnce(P) -> T) -> T {
        for _ in 0..self.count.levels {
            self.guard.leave();
        }
        end(self.inner)
    }

    #[inline]
    fn part<E: Error>(&self) -> Result<(), E> {
        if self.count.one_by_one { self.guard.add_elements(1).map_err(failed) } else { Ok(()) }
    }

    fn skip<E: Error>(&self) -> Result<(), E> {
        if self.guard.self_describing {
            return Ok(());
        }
        Err(failed(self.guard.report(Breach::Skipped)))
    }
}

macro_rules! parts {
    ($($trait:ident $method:ident;)*) => {$(
        impl<P: ser::$trait> ser::$trait for Parts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
                self.part()?;
                self.inner.$method(&Guarded::new(value, self.guard))
            }

            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.close(P::end)
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

macro_rules! named_parts {
    ($($trait:ident)*) => {$(
        impl<P: ser::$trait> ser::$trait for Parts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), P::Error> {
                self.inner.serialize_field(name, &Guarded::new(value, self.guard))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), P::Error> {
                self.skip()?;
                self.inner.skip_field(name)
            }

            #[inline]
            fn end(self) -> Result<P::Ok, P::Error> {
                self.close(P::end)
            }
        }
    )*};
}

named_parts! { SerializeStruct SerializeStructVariant }

impl<P: ser::SerializeMap> ser::SerializeMap for Parts<'_, P> {
    type Ok = P::Ok;
    type Error = P::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), P::Error> {
        self.part()?;
        self.inner.serialize_key(&Guarded::new(key, self.guard))
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
        self.inner.serialize_value(&Guarded::new(value, self.guard))
    }

    #[inline]
    fn end(self) -> Result<P::Ok, P::Error> {
        self.close(P::end)
    }
}
