//! The memory of near entries whose life has ended is given back, also without traffic.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_core::{Cache, Item, near::Near};
use terrace_tier::{Clock, ManualClock};
use terrace_tier_memory::{Memory, Quick};

type Value = Arc<Vec<u8>>;

/// The engine under `Memory` frees nothing while a thread of the process is in the middle of a read, of any cache.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const LIFE: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn cache<N: Near<u64, Value>>(near: N) -> (Cache<u64, Value, N>, ManualClock) {
    let hand = Clock::manual();
    let cache = Cache::builder("tests").clock(&hand).near(near).build().unwrap();
    (cache, hand)
}

/// Puts values of 1 KiB with the given life. The result counts the values that are in memory.
async fn fill<N: Near<u64, Value>>(
    cache: &Cache<u64, Value, N>,
    keys: std::ops::Range<u64>,
    life: Duration,
) -> Vec<Weak<Vec<u8>>> {
    let mut values = Vec::new();
    for key in keys {
        let value = Arc::new(vec![7; 1024]);
        values.push(Arc::downgrade(&value));
        cache.put_item(&key, Item::new(value).ttl(life)).await.unwrap();
    }
    values
}

fn in_memory(values: &[Weak<Vec<u8>>]) -> usize {
    values.iter().filter(|value| value.strong_count() > 0).count()
}

/// Time passes on both clocks, and nobody uses the cache.
async fn idle(hand: &ManualClock, time: Duration) {
    for _ in 0..time.as_secs() {
        hand.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn what_has_ended_is_given_back_within_a_minute<N: Near<u64, Value>>(near: N, count: u64) {
    let (cache, hand) = cache(near);
    let brief = fill(&cache, 0..count, LIFE).await;
    let long = fill(&cache, count..count + 10, 10 * MINUTE).await;
    assert_eq!(in_memory(&brief), brief.len());
    idle(&hand, MINUTE).await;
    assert_eq!((in_memory(&brief), in_memory(&long)), (0, 10));
    let stats = cache.stats();
    assert_eq!((stats.near_entries, stats.near_weight), (10, 10), "they count the living");
    // The next end is found as well, also where it comes by another life.
    cache.expire(&count, Duration::from_secs(120)).await.unwrap();
    idle(&hand, 3 * MINUTE).await;
    assert_eq!(in_memory(&long), 9);
    idle(&hand, 8 * MINUTE).await;
    assert_eq!(in_memory(&long), 0);
    let again = fill(&cache, 0..1, LIFE).await;
    idle(&hand, MINUTE).await;
    assert_eq!(in_memory(&again), 0, "the task has begun again");
}

async fn a_clear_gives_back_at_once<N: Near<u64, Value>>(near: N) {
    let (cache, _) = cache(near);
    let values = fill(&cache, 0..1_000, MINUTE).await;
    cache.clear().await.unwrap();
    assert_eq!(in_memory(&values), 0);
    assert_eq!(cache.stats().near_entries, 0);
}

async fn a_clear_of_a_tenant_gives_back_at_once<N: Near<u64, Value>>(near: N) {
    let tenants = Cache::builder("tests").near(near).build_per_tenant().unwrap();
    let (one, other) = (tenants.tenant("one").unwrap(), tenants.tenant("other").unwrap());
    let values = fill(&one, 0..500, MINUTE).await;
    let others = fill(&other, 0..500, MINUTE).await;
    one.clear().await.unwrap();
    assert_eq!((in_memory(&values), in_memory(&others)), (0, 500));
}

async fn no_task_outlives_the_cache<N: Near<u64, Value>>(near: N) {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let (cache, hand) = cache(near);
    fill(&cache, 0..10, LIFE).await;
    cache.settled().await;
    assert_eq!(tasks(), before + 1);
    // Without an entry that ends, there is no task.
    idle(&hand, MINUTE).await;
    assert_eq!(tasks(), before);
    fill(&cache, 0..10, MINUTE).await;
    assert_eq!(tasks(), before + 1);
    drop(cache);
    tokio::task::yield_now().await;
    assert_eq!(tasks(), before);
}

/// Makes a test of each check for both engines.
macro_rules! on_both_engines {
    ($($check:ident($($more:expr),*);)*) => {
        mod memory {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $check() {
                let _alone = ALONE.lock().await;
                super::$check(Memory::entries(50_000) $(, $more)*).await;
            })*
        }
        mod quick {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $check() { super::$check(Quick::entries(50_000) $(, $more)*).await })*
        }
    };
}

on_both_engines! {
    what_has_ended_is_given_back_within_a_minute(2_000);
    a_clear_gives_back_at_once();
    a_clear_of_a_tenant_gives_back_at_once();
    no_task_outlives_the_cache();
}

#[tokio::test(start_paused = true)]
async fn a_long_pass_runs_outside_of_the_runtime() {
    let _alone = ALONE.lock().await;
    what_has_ended_is_given_back_within_a_minute(Memory::entries(50_000), 20_000).await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_never_ends_needs_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let cache: Cache<u64, Value, Memory<u64, Value>> =
        Cache::builder("tests").near(Memory::entries(10)).build().unwrap();
    cache.put_item(&1, Item::new(Arc::new(Vec::new())).ttl(Duration::MAX)).await.unwrap();
    cache.settled().await;
    assert_eq!(tasks(), 0);
}
