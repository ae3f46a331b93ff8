//! The decoding side of the limits wraps the deserializer of postcard or bincode, and counts depth and
//! elements.
//!
//! Only values that may nest are wrapped. All other values go straight to the format's deserializer.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{Breach, Guard};

/// A deserializer, visitor, access or seed under a guard.
pub(in crate::codec) struct Limited<'g, T> {
    inner: T,
    guard: &'g Guard,
    /// Whether the number of elements of a visitor or access comes from the bytes, and not from the
    /// type.
    counted: bool,
}

impl<'g, T> Limited<'g, T> {
    pub(in crate::codec) fn new(inner: T, guard: &'g Guard) -> Self {
        Self { inner, guard, counted: false }
    }

    fn wrap<U>(&self, inner: U) -> Limited<'g, U> {
        Limited::new(inner, self.guard)
    }

    fn counting(inner: T, guard: &'g Guard) -> Self {
        Self { inner, guard, counted: true }
    }

    /// Counts the next element, and wraps its seed.
    fn element<U, E: Error>(&self, seed: U) -> Result<Limited<'g, U>, E> {
        if self.counted {
            self.guard.add_elements(1).map_err(failed)?;
        }
        Ok(self.wrap(seed))
    }

    /// Counts the claimed number of elements before anything is allocated for them. If the bytes claim
    /// no number, each element is counted when it is read.
    fn claim<A, E: Error>(&self, access: A, claim: Option<usize>) -> Result<Limited<'g, A>, E> {
        let counted = match claim {
            Some(claim) if self.counted => {
                self.guard.add_elements(claim).map_err(failed)?;
                false
            }
            _ => self.counted,
        };
        Ok(Limited { inner: access, guard: self.guard, counted })
    }
}

fn failed<E: Error>(breach: Breach) -> E {
    E::custom(breach.as_str())
}

macro_rules! forward {
    ($($method:ident => $target:ident;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$target(visitor)
        }
    )*};
}

macro_rules! nest {
    ($($method:ident($($name:ident: $type:ty),*) $limit:ident;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* Limited::$limit(visitor, self.guard))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any => deserialize_any;
        deserialize_bool => deserialize_bool;
        deserialize_i8 => deserialize_i8;
        deserialize_i16 => deserialize_i16;
        deserialize_i32 => deserialize_i32;
        deserialize_i64 => deserialize_i64;
        deserialize_i128 => deserialize_i128;
        deserialize_u8 => deserialize_u8;
        deserialize_u16 => deserialize_u16;
        deserialize_u32 => deserialize_u32;
        deserialize_u64 => deserialize_u64;
        deserialize_u128 => deserialize_u128;
        deserialize_f32 => deserialize_f32;
        deserialize_f64 => deserialize_f64;
        deserialize_char => deserialize_char;
        deserialize_str => deserialize_str;
        // bincode would allocate an owned string or buffer at its claimed length before it has seen the
        // bytes.
        deserialize_string => deserialize_str;
        deserialize_bytes => deserialize_bytes;
        deserialize_byte_buf => deserialize_bytes;
        deserialize_unit => deserialize_unit;
        deserialize_identifier => deserialize_identifier;
        deserialize_ignored_any => deserialize_ignored_any;
    }

    nest! {
        deserialize_option() new;
        deserialize_unit_struct(name: &'static str) new;
        deserialize_newtype_struct(name: &'static str) new;
        deserialize_seq() counting;
        deserialize_tuple(len: usize) new;
        deserialize_tuple_struct(name: &'static str, len: usize) new;
        deserialize_map() counting;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) new;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) new;
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Only the visitor methods that postcard and bincode call for the wrapped types are implemented.
impl<'de, V: Visitor<'de>> Visitor<'de> for Limited<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.guard.nested(failed, || self.inner.visit_some(Limited::new(deserializer, self.guard)))
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.guard.nested(failed, || self.inner.visit_newtype_struct(Limited::new(deserializer, self.guard)))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.guard.nested(failed, || {
            let claim = seq.size_hint();
            let seq = self.claim(seq, claim)?;
            self.inner.visit_seq(seq)
        })
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.guard.nested(failed, || {
            let claim = map.size_hint();
            let map = self.claim(map, claim)?;
            self.inner.visit_map(map)
        })
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variants: A) -> Result<V::Value, A::Error> {
        self.guard.nested(failed, || self.inner.visit_enum(Limited::new(variants, self.guard)))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let seed = self.element(seed)?;
        self.inner.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let seed = self.element(seed)?;
        self.inner.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.wrap(seed);
        self.inner.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Limited<'_, T> {
    type Value = T::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Limited::new(deserializer, self.guard))
    }
}

impl<'de, 'g, A: EnumAccess<'de>> EnumAccess<'de> for Limited<'g, A> {
    type Error = A::Error;
    type Variant = Limited<'g, A::Variant>;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Limited::new(variant, self.guard)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.wrap(seed);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.wrap(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.wrap(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
