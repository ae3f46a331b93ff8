//! `Quick`, over quick_cache.

use std::{fmt, hash::Hash, sync::Arc};

use quick_cache::{Weighter, sync::Cache as Engine};
use terrace_core::{
    BorrowedKey,
    near::{Entry, Near, NearSize, TenantId, TenantKey, TenantKeyRef, Timestamp},
};

/// The near tier with the shortest hits, over quick_cache, whose eviction is a variant of S3-FIFO.
/// `cargo xtask bench-report near` measures its hits and the hits of `Memory`.
///
/// # Cost
/// A hit costs what quick_cache's own hit costs plus one clock read, and allocates nothing.
///
/// ```
/// use terrace_tier_memory::Quick;
///
/// let small: Quick<String, u64> = Quick::entries(1_000);
/// let heavy: Quick<String, Vec<u8>> =
///     Quick::bytes(10_000, 64 << 20, |key: &String, value: &Vec<u8>| key.len() + value.len());
/// ```
///
/// Source: Yang et al., FIFO Queues are All You Need for Cache Eviction, SOSP 2023.
pub struct Quick<K, V> {
    engine: Engine<TenantKey<K>, Arc<Entry<V>>, Weigh<K, V>>,
    // A field of its own, since the engine's capacity is behind the locks of all its shards.
    enabled: bool,
}

type WeighFn<K, V> = Arc<dyn Fn(&K, &V) -> usize + Send + Sync>;

/// Weighs an entry: 1, or its bytes.
struct Weigh<K, V>(Option<WeighFn<K, V>>);

impl<K, V> Clone for Weigh<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Weighter<TenantKey<K>, Arc<Entry<V>>> for Weigh<K, V> {
    fn weight(&self, key: &TenantKey<K>, entry: &Arc<Entry<V>>) -> u64 {
        match &self.0 {
            None => 1,
            Some(weigh) => {
                let bytes = entry.value().map_or(size_of::<K>(), |value| weigh(&key.key, value));
                // An entry without weight would never be evicted.
                (bytes as u64).max(1)
            }
        }
    }
}

impl<K, V> Quick<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Keeps at most `capacity` entries; a capacity of 0 keeps nothing.
    pub fn entries(capacity: usize) -> Self {
        Self::over(Engine::with_weighter(capacity, capacity as u64, Weigh(None)), capacity > 0)
    }

    /// Keeps at most `capacity_bytes`, by the weight in bytes that `weigh` returns for an entry, and
    /// prepares for about `expected_entries` entries. `weigh` must not call the cache.
    pub fn bytes(
        expected_entries: usize,
        capacity_bytes: u64,
        weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static,
    ) -> Self {
        let weigh = Weigh(Some(Arc::new(weigh) as WeighFn<K, V>));
        Self::over(Engine::with_weighter(expected_entries, capacity_bytes, weigh), capacity_bytes > 0)
    }

    /// Keeps nothing.
    pub fn off() -> Self {
        Self::over(Engine::with_weighter(0, 0, Weigh(None)), false)
    }

    fn over(engine: Engine<TenantKey<K>, Arc<Entry<V>>, Weigh<K, V>>, enabled: bool) -> Self {
        Self { engine, enabled }
    }
}

impl<K, V> Near<K, V> for Quick<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn off() -> Self {
        Self::over(Engine::with_weighter(0, 0, Weigh(None)), false)
    }

    #[inline]
    fn get<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> Option<Arc<Entry<V>>> {
        self.engine.get(key)
    }

    fn holds<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> bool {
        self.engine.contains_key(key)
    }

    fn insert(&self, key: TenantKey<K>, entry: Arc<Entry<V>>) {
        if self.enabled {
            self.engine.insert(key, entry);
        }
    }

    fn remove<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) {
        self.engine.remove(key);
    }

    fn clear(&self, tenant: Option<TenantId>) {
        match tenant {
            None => self.engine.clear(),
            Some(tenant) => self.engine.retain(|key, _| key.tenant != tenant),
        }
    }

    fn drop_expired(&self, now: Timestamp) -> Timestamp {
        let mut earliest = Timestamp::NEVER;
        let end_of = |entry: &Arc<Entry<V>>| entry.deadlines().expires_at;
        // The iterator locks a shard for one entry at a time. A `retain` would lock it for all of them.
        for (key, entry) in self.engine.iter() {
            match end_of(&entry) {
                end if end <= now => drop(self.engine.remove_if(&key, |entry| end_of(entry) <= now)),
                end => earliest = earliest.min(end),
            }
        }
        earliest
    }

    fn size(&self) -> NearSize {
        NearSize { entries: self.engine.len() as u64, weight: self.engine.weight() }
    }

    fn is_enabled(&self) -> bool {
        self.enabled
    }
}

impl<K, V> fmt::Debug for Quick<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.enabled { "Quick" } else { "Quick(off)" })
    }
}
