//! Each read counts as one use of its key in the near engine, so that the chain does not skew eviction.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use terrace_core::{
    BorrowedKey, Cache, Item,
    near::{Entry, Near, NearSize, TenantId, TenantKey, TenantKeyRef},
};
use terrace_tier::Clock;
use terrace_tier_memory::Memory;

/// `Memory` that counts its reads.
struct CountingNear(Memory<u64, u64>, Arc<AtomicUsize>);

impl Near<u64, u64> for CountingNear {
    fn off() -> Self {
        Self(Memory::off(), Arc::default())
    }

    fn get<Q: BorrowedKey<u64> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> Option<Arc<Entry<u64>>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }

    fn holds<Q: BorrowedKey<u64> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> bool {
        self.0.holds(key)
    }

    fn insert(&self, key: TenantKey<u64>, entry: Arc<Entry<u64>>) {
        self.0.insert(key, entry);
    }

    fn remove<Q: BorrowedKey<u64> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) {
        self.0.remove(key);
    }

    fn clear(&self, tenant: Option<TenantId>) {
        Near::clear(&self.0, tenant);
    }

    fn size(&self) -> NearSize {
        self.0.size()
    }

    fn is_enabled(&self) -> bool {
        self.0.is_enabled()
    }
}

#[tokio::test]
async fn a_miss_a_load_and_a_hit_are_one_use_each() {
    let (hand, reads) = (Clock::manual(), Arc::new(AtomicUsize::new(0)));
    let cache: Cache<u64, u64, CountingNear> = Cache::builder("uses")
        .near(CountingNear(Memory::entries(10), Arc::clone(&reads)))
        .clock(&hand)
        .build()
        .unwrap();
    let uses = || reads.swap(0, Ordering::Relaxed);
    let load = || async { Ok::<_, Infallible>(7) };

    assert!(cache.get(&1).await.unwrap().is_none());
    assert_eq!(uses(), 1, "a miss");
    cache.get_or_load(&1, load).await.unwrap();
    assert_eq!(uses(), 1, "a load");
    cache.get_or_load(&1, load).await.unwrap();
    assert_eq!(uses(), 1, "a hit");
    cache.get_or_load_with(&2, |_| async { Ok::<_, Infallible>(Item::new(8)) }).await.unwrap();
    assert_eq!(uses(), 1, "a load of an item");
    hand.advance(Duration::from_secs(3600));
    cache.get_or_load(&1, load).await.unwrap();
    assert_eq!(
        uses(),
        2,
        "an expired entry is read again, because another caller may have renewed it meanwhile"
    );
    cache.get_many(&[1, 2, 3]).await;
    assert_eq!(uses(), 3, "each of many keys counts once");
}
