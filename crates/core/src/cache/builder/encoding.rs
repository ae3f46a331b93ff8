//! The parts of a builder that say how values become bytes, and which older types are read.

use serde::de::DeserializeOwned;

use super::Builder;
use crate::{
    Key, Value,
    codec::{Codec, Compression},
    near::Near,
    typed_codec::Upgrade,
};

impl<K: Key, V: Value, N: Near<K, V>> Builder<K, V, N> {
    /// Sets how values are encoded for remote tiers. The default codec is postcard. Every reader can
    /// decode every codec.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = Some(codec);
        self
    }

    /// Sets how envelopes are compressed. By default values above 1 KiB are compressed with LZ4.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = Some(compression);
        self
    }

    /// Sets the schema number of the value type, which is 0 by default. A newer version of the program
    /// gives a higher number. The number is needed where the meaning of the values changes while their type
    /// stays the same, and for [`upgrade`](Self::upgrade).
    ///
    /// Values of another schema number are not read, nor are values of a changed type. In a cache tier each
    /// schema number and type has copies of its own, so that old and new programs share a namespace. A
    /// record in a store has one type: a read of another one is an error of
    /// [`ErrorKind::Undecodable`](crate::ErrorKind::Undecodable), which says when a newer program wrote the
    /// record.
    #[must_use]
    pub fn schema(mut self, schema: u32) -> Self {
        self.settings.schema = schema;
        self
    }

    /// Reads values that a program wrote with this schema number and the value type `Old`, and makes
    /// values of the cache's type out of them. Each older type has an `upgrade` of its own. Writes write the
    /// cache's own type. `upgrade` holds for records and copies alike.
    ///
    /// A program that is to read what a *newer* one writes does it in the same way, with the number and type
    /// of the newer one. The page `docs/deploys.md` has the steps of a rolling update.
    ///
    /// # Errors
    /// [`build`](Self::build) fails with [`ErrorKind::Config`](crate::ErrorKind::Config) for a number and type
    /// that are given twice, or are the cache's own.
    ///
    /// # Cost
    /// A read of an older value makes one more pass over its bytes for each type that is tried first.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use terrace_core::{Builder, NoNear};
    /// # use terrace_conformance::Fake;
    ///
    /// #[derive(Deserialize)]
    /// struct NameOnly(String);
    ///
    /// #[derive(Deserialize)]
    /// struct NameAndAge(String, u8);
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct User { name: String, age: Option<u8>, email: Option<String> }
    ///
    /// # let postgres = Fake::named("postgres");
    /// let users = Builder::<u64, User, NoNear>::new("users".to_owned(), NoNear)
    ///     .store(postgres)
    ///     .schema(3)
    ///     .upgrade::<NameAndAge>(2, |old| User { name: old.0, age: Some(old.1), email: None })
    ///     .upgrade::<NameOnly>(1, |old| User { name: old.0, age: None, email: None });
    /// ```
    #[must_use]
    pub fn upgrade<Old>(mut self, schema: u32, upgrade: impl Fn(Old) -> V + Send + Sync + 'static) -> Self
    where
        Old: DeserializeOwned + 'static,
    {
        self.upgrades.push(Upgrade::new(schema, upgrade));
        self
    }
}
