//! Near tiers implement this contract: they are typed, in process, synchronous and infallible.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use equivalent::Equivalent;

pub use terrace_tier::Timestamp;

pub use crate::entry::Entry;

use crate::key::{self, BorrowedKey};

/// A tenant of a cache, in a near tier that many tenants share. Caches without tenants use
/// [`TenantId::NONE`].
///
/// A tenant's id is a digest of 16 bytes of the tenant's name, so no table of tenants is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantId([u64; 2]);

/// Without tenants only the key is hashed, which saves a few nanoseconds in each hit.
#[allow(
    clippy::derived_hash_with_manual_eq,
    reason = "equal ids hash the same: both hash nothing, or both hash all"
)]
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

/// A key with its tenant, by which near tiers index entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantKey<K> {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The key within its tenant.
    pub key: K,
}

/// A borrowed key with its tenant. A `TenantKeyRef` hashes and compares like the [`TenantKey`] of the
/// same tenant and key.
#[derive(Debug)]
pub struct TenantKeyRef<'a, Q: ?Sized> {
    /// The tenant of the key.
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

/// The size of a near tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NearSize {
    /// The approximate number of entries.
    pub entries: u64,
    /// The weight of the entries in the engine's unit: a count of entries, or bytes.
    pub weight: u64,
}

/// A near tier: a bounded in-process map over an eviction engine.
///
/// A near tier compares no deadlines on a hit, which the cache does. It compares them in
/// [`drop_expired`](Self::drop_expired).
///
/// The cache changes the near tier under a lock of its own, which keeps reads and writes of a key apart.
/// Under the lock of the cache the engine may run code of the application: a weigher, the `Drop` of an
/// evicted value, `Hash` and `Eq` of keys. Code that the engine runs must not call the cache, because
/// the call would wait for its own lock.
///
/// # Cost
/// A hit must not allocate and must not wait.
pub trait Near<K, V>: Send + Sync + 'static {
    /// Makes a disabled tier, which keeps nothing.
    fn off() -> Self
    where
        Self: Sized;

    /// Returns the entry of a key. The engine counts the call as a use of the entry.
    fn get<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> Option<Arc<Entry<V>>>;

    /// Whether the tier has an entry of the key. The engine does not count this call as a use of the
    /// entry.
    fn holds<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> bool;

    /// Keeps an entry in place of the key's older entry. The engine may refuse the new entry, or evict
    /// others.
    fn insert(&self, key: TenantKey<K>, entry: Arc<Entry<V>>);

    /// Drops the entry of a key.
    fn remove<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>);

    /// Drops the entries of one tenant, or of all tenants for `None`, and gives back their memory.
    fn clear(&self, tenant: Option<TenantId>);

    /// Drops the entries whose [`expires_at`](terrace_tier::Deadlines) is `now` or earlier, and gives back their
    /// memory. Returns the earliest `expires_at` among the entries that stay, or an earlier time.
    ///
    /// The cache calls it in the background, at most every five seconds, once an entry has ended. An entry that
    /// is inserted meanwhile may be missed. By default it drops nothing, and entries that ended stay until the
    /// engine evicts them.
    ///
    /// # Cost
    /// One look at each entry. It may take a hundredth of the time until the next call.
    fn drop_expired(&self, _now: Timestamp) -> Timestamp {
        Timestamp::NEVER
    }

    /// The number and the weight of the tier's entries.
    fn size(&self) -> NearSize;

    /// Whether the tier keeps entries at all; `false` for a disabled tier.
    fn is_enabled(&self) -> bool;
}

/// The near tier of a cache that needs none: it keeps nothing.
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
