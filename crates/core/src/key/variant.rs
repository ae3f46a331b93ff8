//! A deserializer knows a `NamedVariant` of an enum by its name.

use serde::de::{DeserializeSeed, EnumAccess, VariantAccess, value::BorrowedStrDeserializer};

/// The variant `name`. `content` deserializes the content of the variant.
pub(crate) struct NamedVariant<'n, C> {
    pub(crate) name: &'n str,
    pub(crate) content: C,
}

impl<'de, C: VariantAccess<'de>> EnumAccess<'de> for NamedVariant<'de, C> {
    type Error = C::Error;
    type Variant = C;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, C), C::Error> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<C::Error>::new(self.name))?;
        Ok((variant, self.content))
    }
}
