//! The typed codecs turn the keys and values of a cache into bytes. The functions of a codec are bound
//! when a remote tier is added, so a cache without remote tiers needs no serde traits of its types.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use terrace_tier::{KeyDigest, Scope, TierKey};

use crate::{
    Result,
    codec::{self, DecodeError, Settings},
    key,
};

/// The codec of a cache's keys, which turns keys into bytes and back.
pub(crate) struct KeyCodec<K> {
    key: fn(&K) -> Result<Bytes>,
    decode: fn(&[u8]) -> Result<K>,
    is_long: fn(&K) -> bool,
    check: fn() -> Result<()>,
}

/// The codec of a cache's keys and values, which turns keys into bytes, and values into bytes and back.
pub(crate) struct TypedCodec<K, V> {
    key: fn(&K) -> Result<Bytes>,
    seal: fn(&V, &Settings, KeyDigest) -> Result<Bytes>,
    open: fn(&[u8], &Settings, KeyDigest) -> Result<V, DecodeError>,
    check: fn(&Settings) -> Result<()>,
    pub(crate) settings: Settings,
}

impl<K> KeyCodec<K> {
    pub(crate) fn new() -> Self
    where
        K: Serialize + DeserializeOwned + Eq + 'static,
    {
        let (key, decode) = (key::shared_key::<K>, key::decode_shared_key::<K>);
        Self { key, decode, is_long: key::is_long_key::<K>, check: key::check_type::<K> }
    }

    /// Refuses a key type that the format of keys cannot carry.
    pub(crate) fn check(&self) -> Result<()> {
        (self.check)()
    }

    /// Whether tiers and logs know the key by its digest alone, from which it cannot be decoded.
    pub(crate) fn is_long(&self, key: &K) -> bool {
        (self.is_long)(key)
    }

    pub(crate) fn key(&self, key: &K) -> Result<Bytes> {
        (self.key)(key)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<K> {
        (self.decode)(bytes)
    }
}

impl<K, V> TypedCodec<K, V> {
    pub(crate) fn new() -> Self
    where
        K: Serialize + DeserializeOwned + Eq + 'static,
        V: Serialize + DeserializeOwned,
    {
        Self {
            key: key::shared_key::<K>,
            seal: codec::seal::<V>,
            open: codec::open::<V>,
            check: codec::check::<V>,
            settings: Settings::of::<V>(),
        }
    }

    /// Refuses a value type that the codec of the settings cannot carry.
    pub(crate) fn check(&self) -> Result<()> {
        self.settings.check()?;
        (self.check)(&self.settings)
    }

    /// The key as the remote tiers see it. `scope` stands for the namespace and the tenant of the key.
    pub(crate) fn tier_key(&self, key: &K, scope: &Scope) -> Result<TierKey> {
        let bytes = (self.key)(key)?;
        let digest = scope.digest(&bytes);
        Ok(TierKey { bytes, digest })
    }

    pub(crate) fn seal(&self, value: &V, digest: KeyDigest) -> Result<Bytes> {
        (self.seal)(value, &self.settings, digest)
    }

    pub(crate) fn open(&self, bytes: &Bytes, digest: KeyDigest) -> Result<V, DecodeError> {
        (self.open)(bytes, &self.settings, digest)
    }
}
