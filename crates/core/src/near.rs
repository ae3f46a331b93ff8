//! The contract of near tiers: typed, in process, synchronous, infallible.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use equivalent::Equivalent;

pub use crate::entry::Entry;

use crate::key::{self, BorrowedKey};

/// Whose entries are meant, where one near tier serves many tenants: a digest of the tenant's
/// name, so that no table of tenants is kept. Caches without tenants use [`TenantId::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantId([u64; 2]);

/// Keys of caches without tenants hash as they are: that is a few nanoseconds of each hit.
#[allow(clippy::derived_hash_with_manual_eq, reason = "equal ids hash the same: nothing, or all of it")]
impl Hash for TenantId {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        if *self != Self::NONE {
            state.write_u64(self.0[0]);
            state.write_u64(self.0[1]);
        }
    }
}

impl TenantId {
    /// The tenant of caches without tenants.
    pub const NONE: Self = Self([0; 2]);

    /// The tenant of this name in a namespace.
    pub(crate) fn named(namespace: &str, tenant: &str) -> Self {
        let number = u128::from_be_bytes(key::key_digest(namespace, Some(tenant), b""));
        Self([(number >> 64) as u64, number as u64])
    }
}

/// A key of its tenant, as near tiers index it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantKey<K> {
    /// Whose key.
    pub tenant: TenantId,
    /// The key.
    pub key: K,
}

/// A borrowed key of its tenant; hashes and compares like the [`TenantKey`] key it stands for.
#[derive(Debug)]
pub struct TenantKeyRef<'a, Q: ?Sized> {
    /// Whose key.
    pub tenant: TenantId,
    /// The borrowed key.
    pub key: &'a Q,
}

impl<Q: ?Sized> Clone for TenantKeyRef<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized> Copy for TenantKeyRef<'_, Q> {}

impl<Q: Hash + ?Sized> Hash for TenantKeyRef<'_, Q> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tenant.hash(state);
        self.key.hash(state);
    }
}

impl<K, Q: BorrowedKey<K> + ?Sized> Equivalent<TenantKey<K>> for TenantKeyRef<'_, Q> {
    #[inline]
    fn equivalent(&self, other: &TenantKey<K>) -> bool {
        self.tenant == other.tenant && self.key.matches(&other.key)
    }
}

/// What a near tier holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NearSize {
    /// Entries held, about.
    pub entries: u64,
    /// Their weight in the engine's own unit: entries, or bytes.
    pub weight: u64,
}

/// A near tier: an in-process map with a bound, over an engine of its own.
///
/// It knows no deadline: the chain compares them on each hit. A hit must not allocate or wait.
///
/// Changes come under a lock of the chain's, which keeps reads and writes of a key apart. What the
/// engine then runs of the application's (a weigher, the `Drop` of what it evicts, `Hash` and `Eq` of
/// keys) must not call the cache: it would wait for itself.
pub trait Near<K, V>: Send + Sync + 'static {
    /// The tier in its disabled state: it keeps nothing.
    fn off() -> Self
    where
        Self: Sized;

    /// The entry of a key, counted as a use by the engine's eviction.
    fn get<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> Option<Arc<Entry<V>>>;

    /// Whether it has an entry of the key; no use of it.
    fn holds<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> bool;

    /// Keeps an entry, in place of any older one; the engine may refuse or evict.
    fn insert(&self, key: TenantKey<K>, entry: Arc<Entry<V>>);

    /// Drops an entry.
    fn remove<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>);

    /// Drops the entries of one tenant, or all.
    fn clear(&self, tenant: Option<TenantId>);

    /// What it holds.
    fn size(&self) -> NearSize;

    /// Whether it keeps anything at all; not in its disabled state.
    fn is_enabled(&self) -> bool;
}

/// No near tier: keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNear;

impl<K, V> Near<K, V> for NoNear {
    fn off() -> Self {
        Self
    }

    fn get<Q: BorrowedKey<K> + ?Sized>(&self, _key: &TenantKeyRef<'_, Q>) -> Option<Arc<Entry<V>>> {
        None
    }

    fn holds<Q: BorrowedKey<K> + ?Sized>(&self, _key: &TenantKeyRef<'_, Q>) -> bool {
        false
    }

    fn insert(&self, _key: TenantKey<K>, _entry: Arc<Entry<V>>) {}

    fn remove<Q: BorrowedKey<K> + ?Sized>(&self, _key: &TenantKeyRef<'_, Q>) {}

    fn clear(&self, _tenant: Option<TenantId>) {}

    fn size(&self) -> NearSize {
        NearSize::default()
    }

    fn is_enabled(&self) -> bool {
        false
    }
}
