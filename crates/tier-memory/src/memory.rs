//! `Memory`, over moka.

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use moka::sync::Cache as Engine;
use terrace_core::{
    BorrowedKey,
    near::{Entry, Near, NearSize, TenantId, TenantKey, TenantKeyRef, Timestamp},
};

/// The runs of pending tasks after which dropped entries are freed: see [`BoundedEngine::free`]. There are more than needed,
/// since a thread that reads just then holds a run up.
const RUNS_AT_LEAST: u64 = 8;
const DROPPED_PER_RUN: u64 = 128;

/// The default near tier, over moka: W-TinyLFU admission, which resists scans.
///
/// Its bound is a number of entries or a weight in bytes. [`Memory::off`] keeps nothing, so that a
/// cache whose tiers are chosen at run time has one type.
///
/// # Cost
/// A hit costs what moka's own hit costs, and allocates nothing more.
///
/// ```
/// use terrace_tier_memory::Memory;
///
/// let small: Memory<String, u64> = Memory::entries(1_000);
/// let heavy: Memory<String, Vec<u8>> =
///     Memory::bytes(64 << 20, |key: &String, value: &Vec<u8>| key.len() + value.len());
/// let none: Memory<String, u64> = Memory::off();
/// ```
///
/// Source: Einziger, Friedman, Manes, TinyLFU: A Highly Efficient Cache Admission Policy, ACM TOS 2017.
pub struct Memory<K, V>(Option<BoundedEngine<K, V>>);

struct BoundedEngine<K, V> {
    engine: Engine<TenantKey<K>, Arc<Entry<V>>>,
    /// The entries that the last pass over all entries dropped.
    dropped_before: AtomicU64,
}

impl<K, V> Memory<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Keeps at most about `capacity` entries.
    pub fn entries(capacity: u64) -> Self {
        Self::over(Engine::new(capacity))
    }

    /// Keeps at most about `capacity_bytes`, by the weight in bytes that `weigh` returns for an entry.
    /// The weight of a negative entry is the `size_of` its key. A weight above 4 GiB counts as 4 GiB.
    /// `weigh` must not call the cache.
    pub fn bytes(capacity_bytes: u64, weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static) -> Self {
        let weigher = move |key: &TenantKey<K>, entry: &Arc<Entry<V>>| {
            let bytes = entry.value().map_or(size_of::<K>(), |value| weigh(&key.key, value));
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self::over(Engine::builder().max_capacity(capacity_bytes).weigher(weigher).build())
    }

    /// Keeps nothing.
    pub fn off() -> Self {
        Self(None)
    }

    fn over(engine: Engine<TenantKey<K>, Arc<Entry<V>>>) -> Self {
        Self(Some(BoundedEngine { engine, dropped_before: AtomicU64::new(0) }))
    }
}

impl<K, V> BoundedEngine<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Gives back the memory of so many entries that were just dropped.
    ///
    /// The engine's hash table frees what was taken out of it once no thread can be reading it (crossbeam-epoch).
    /// Each run of the pending tasks frees 512 entries at most, and needs two runs before it for the first one. A
    /// thread that the system suspended in the middle of a read holds all of them up, so the next pass repeats it.
    fn free(&self, dropped: u64) {
        let dropped = dropped + self.dropped_before.swap(dropped, Ordering::Relaxed);
        for _ in 0..RUNS_AT_LEAST + dropped / DROPPED_PER_RUN {
            self.engine.run_pending_tasks();
        }
    }
}

impl<K, V> Near<K, V> for Memory<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn off() -> Self {
        Self(None)
    }

    #[inline]
    fn get<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> Option<Arc<Entry<V>>> {
        self.0.as_ref()?.engine.get(key)
    }

    fn holds<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> bool {
        self.0.as_ref().is_some_and(|bounded| bounded.engine.contains_key(key))
    }

    fn insert(&self, key: TenantKey<K>, entry: Arc<Entry<V>>) {
        if let Some(BoundedEngine { engine, .. }) = &self.0 {
            engine.insert(key, entry);
        }
    }

    fn remove<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) {
        if let Some(BoundedEngine { engine, .. }) = &self.0 {
            engine.invalidate(key);
        }
    }

    fn clear(&self, tenant: Option<TenantId>) {
        let Some(bounded) = &self.0 else { return };
        let engine = &bounded.engine;
        let mut dropped = 0;
        match tenant {
            None => {
                dropped = engine.entry_count();
                engine.invalidate_all();
            }
            Some(tenant) => {
                for (key, _) in engine.iter().filter(|(key, _)| key.tenant == tenant) {
                    engine.invalidate(&*key);
                    dropped += 1;
                }
            }
        }
        bounded.free(dropped);
    }

    fn drop_expired(&self, now: Timestamp) -> Timestamp {
        let Some(bounded) = &self.0 else { return Timestamp::NEVER };
        let (mut earliest, mut dropped) = (Timestamp::NEVER, 0);
        for (key, entry) in &bounded.engine {
            let end = entry.deadlines().expires_at;
            if end <= now {
                // An entry that took this one's place just now goes too. It counts as evicted.
                bounded.engine.invalidate(&*key);
                dropped += 1;
            } else {
                earliest = earliest.min(end);
            }
        }
        bounded.free(dropped);
        earliest
    }

    fn size(&self) -> NearSize {
        self.0.as_ref().map_or_else(NearSize::default, |BoundedEngine { engine, .. }| {
            engine.run_pending_tasks();
            NearSize { entries: engine.entry_count(), weight: engine.weighted_size() }
        })
    }

    fn is_enabled(&self) -> bool {
        self.0.is_some()
    }
}

impl<K, V> fmt::Debug for Memory<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Memory" } else { "Memory(off)" })
    }
}
