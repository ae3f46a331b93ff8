//! The typed codecs turn the keys and values of a cache into bytes. The functions of a codec are bound
//! when a remote tier is added, so a cache without remote tiers needs no serde traits of its types.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use terrace_tier::{KeyDigest, Scope, TierKey};

use crate::{
    Error, Result,
    codec::{self, DecodeError, Settings, Shape},
    key,
};

/// Reads a value of the older type `Old` as a `V`.
type OpenOld<V> = Arc<dyn Fn(&[u8], &Settings, KeyDigest) -> Result<V, DecodeError> + Send + Sync>;

/// An older value type whose bytes are read, and become values of the cache's type.
pub(crate) struct Upgrade<V> {
    schema: u32,
    shape: Shape,
    open: OpenOld<V>,
}

impl<V> Upgrade<V> {
    pub(crate) fn new<Old: DeserializeOwned + 'static>(
        schema: u32,
        upgrade: impl Fn(Old) -> V + Send + Sync + 'static,
    ) -> Self {
        let open = move |bytes: &[u8], settings: &Settings, key: KeyDigest| {
            codec::open::<Old>(bytes, settings, key).map(&upgrade)
        };
        Self { schema, shape: Shape::of::<Old>(), open: Arc::new(open) }
    }

    /// The settings of the cache, but for the type.
    fn settings(&self, of_cache: &Settings) -> Settings {
        Settings { schema: self.schema, shape: self.shape, ..*of_cache }
    }
}

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
    upgrades: Vec<Upgrade<V>>,
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
            upgrades: Vec::new(),
        }
    }

    /// Refuses a value type that the codec of the settings cannot carry.
    pub(crate) fn check(&self) -> Result<()> {
        self.settings.check()?;
        (self.check)(&self.settings)
    }

    /// Sets the older types that are read, after the settings are complete.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where two of them, or one and the cache's own type, have
    /// the same schema number and shape: the bytes would not say which one is meant.
    pub(crate) fn set_upgrades(&mut self, upgrades: Vec<Upgrade<V>>) -> Result<()> {
        let own = (self.settings.schema, self.settings.shape.fingerprint());
        let mut known = vec![own];
        for upgrade in &upgrades {
            let kind = (upgrade.schema, upgrade.shape.fingerprint());
            if known.contains(&kind) {
                return Err(Error::config(format!(
                    "`upgrade` is given the schema number {} with a type that is read already; give the newer \
                     type a higher number by `schema`",
                    upgrade.schema
                )));
            }
            known.push(kind);
        }
        self.upgrades = upgrades;
        Ok(())
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
        match (self.open)(bytes, &self.settings, digest) {
            Err(reason) if reason.is_of_another_type() => self.open_old(bytes, digest).unwrap_or(Err(reason)),
            value => value,
        }
    }

    /// The value of an older type that `bytes` hold, if they hold one of a known type.
    #[cold]
    fn open_old(&self, bytes: &Bytes, digest: KeyDigest) -> Option<Result<V, DecodeError>> {
        let read = |upgrade: &Upgrade<V>| (upgrade.open)(bytes, &upgrade.settings(&self.settings), digest);
        self.upgrades
            .iter()
            .map(read)
            .find(|read| !matches!(read, Err(reason) if reason.is_of_another_type()))
    }

    /// The envelope `ours`, with those of other value types that a cell holds for the key.
    pub(crate) fn together(&self, ours: &Bytes, held: &Bytes, digest: KeyDigest) -> Bytes {
        codec::together(ours, held, &self.settings, digest)
    }
}
