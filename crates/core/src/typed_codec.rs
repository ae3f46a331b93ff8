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
}

/// The codec of a cache's keys and values, which turns keys into bytes, and values into bytes and back.
pub(crate) struct TypedCodec<K, V> {
    key: fn(&K) -> Result<Bytes>,
    seal: fn(&V, &Settings, KeyDigest) -> Result<Bytes>,
    open: fn(&[u8], &Settings, KeyDigest) -> Result<V, DecodeError>,
    pub(crate) settings: Settings,
}

impl<K> KeyCodec<K> {
    pub(crate) fn new() -> Self
    where
        K: Serialize + DeserializeOwned + Eq + 'static,
    {
        Self { key: key::encode_key::<K>, decode: key::decode_key::<K> }
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
            key: key::encode_key::<K>,
            seal: codec::seal::<V>,
            open: codec::open::<V>,
            settings: Settings::of::<V>(),
        }
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
