//! Batches: each key gets what a single read would get, with fewer trips and one grouped load.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use support::{FixedExpiry, Loader, Near, OnStaleHit, Stack, builder, fake, ms, without_near};
use terrace_core::{BoxError, Builder, ErrorKind, Many, MissingKeys, policy::OnStale};
use terrace_tier::{Clock, ManualClock};

fn renewing(builder: Builder<String, u64, Near>, hand: &ManualClock) -> Builder<String, u64, Near> {
    let short = FixedExpiry::fresh(ms(1_000)).stale(ms(60_000));
    builder.clock(hand).expire(short).freshness(OnStaleHit(OnStale::ServeAndRefresh))
}

fn names(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

/// A grouped loader that gives one value to all keys, and records the keys of each run.
#[derive(Clone, Default)]
struct GroupedLoader(Arc<Mutex<Vec<Vec<String>>>>);

impl GroupedLoader {
    async fn load(&self, cache: &Stack, keys: &[&str], value: u64) -> Vec<Option<u64>> {
        let runs = Arc::clone(&self.0);
        let load = move |missing: MissingKeys<String>| {
            runs.lock().push(missing.keys().to_vec());
            let count = missing.keys().len();
            async move { Ok::<_, BoxError>(missing.zip(std::iter::repeat_n(value, count))) }
        };
        values(cache.get_or_load_many(&names(keys), load).await)
    }

    fn runs(&self) -> Vec<Vec<String>> {
        self.0.lock().clone()
    }
}

fn values(many: Many<u64>) -> Vec<Option<u64>> {
    many.into_values().unwrap().into_iter().map(|value| value.map(|value| *value)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_serves_what_is_stale_near_and_renews_it_in_one_load() {
    let hand = Clock::manual();
    let cache = renewing(builder(), &hand).build().unwrap();
    let loads = GroupedLoader::default();
    loads.load(&cache, &["a", "b"], 1).await;
    hand.advance(ms(2_000));
    assert_eq!(loads.load(&cache, &["a", "b"], 2).await, [Some(1), Some(1)]);
    cache.settled().await;
    assert_eq!(loads.load(&cache, &["a", "b"], 3).await, [Some(2), Some(2)]);
    assert_eq!(loads.runs(), [names(&["a", "b"]), names(&["a", "b"])]);
    assert_eq!((cache.stats().stale_served, cache.stats().flights), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_serves_what_is_stale_in_a_tier_and_renews_it() {
    let hand = Clock::manual();
    let cache = renewing(without_near(), &hand).tier(fake("redis", &hand)).build().unwrap();
    let loads = GroupedLoader::default();
    loads.load(&cache, &["a", "b"], 1).await;
    cache.settled().await;
    hand.advance(ms(2_000));
    assert_eq!(loads.load(&cache, &["a", "b"], 2).await, [Some(1), Some(1)]);
    cache.settled().await;
    assert_eq!(loads.load(&cache, &["a", "b"], 3).await, [Some(2), Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_and_what_is_missing_are_one_load() {
    let hand = Clock::manual();
    let cache = renewing(builder(), &hand).build().unwrap();
    let loads = GroupedLoader::default();
    loads.load(&cache, &["stale"], 1).await;
    hand.advance(ms(2_000));
    assert_eq!(loads.load(&cache, &["stale", "missing"], 2).await, [Some(1), Some(2)]);
    cache.settled().await;
    assert_eq!(loads.runs()[1], names(&["missing", "stale"]));
    assert_eq!(loads.load(&cache, &["stale", "missing"], 3).await, [Some(2), Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_plain_reads_renews_what_is_stale_from_the_store() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = renewing(builder(), &hand).store(store.clone()).build().unwrap();
    let other = renewing(without_near(), &hand).store(store.another_handle()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    hand.advance(ms(2_000));
    other.put("k", 2).await.unwrap();
    let keys = names(&["k"]);
    assert_eq!(values(cache.get_many(&keys).await), [Some(1)]);
    cache.settled().await;
    assert_eq!(values(cache.get_many(&keys).await), [Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_bound_loader_fails_for_its_key_alone_and_runs_for_some_keys_at_a_time() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, seen) = (Arc::clone(&running), Arc::clone(&most));
    let load = move |key: String| {
        let (now, seen) = (Arc::clone(&now), Arc::clone(&seen));
        async move {
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(ms(10)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            assert!(key != "7", "a loader that panics on purpose");
            if key == "3" { Err(BoxError::from("no such key")) } else { Ok(1) }
        }
    };
    let cache = builder().loader(load).build().unwrap();
    let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for (key, answer) in cache.get_many(&keys).await.into_iter().enumerate() {
        match key {
            3 => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Load),
            7 => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Panicked),
            _ => assert_eq!(answer.unwrap().unwrap(), 1),
        }
    }
    assert!(most.load(Ordering::SeqCst) <= 32, "at most 32 loaders may run at a time: {most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_over_a_load_that_panicked() {
    let (cache, loader, loads) = (support::local(), Loader::default(), GroupedLoader::default());
    let single = cache.get_or_load("k", || loader.panic(ms(20)));
    let batch = async {
        tokio::time::sleep(ms(5)).await;
        loads.load(&cache, &["k"], 2).await
    };
    let (single, batch) = tokio::join!(single, batch);
    assert_eq!(single.unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!(batch, [Some(2)]);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn of_two_batches_that_follow_a_panicked_one_the_one_with_an_unused_loader_takes_over() {
    let (cache, loads) = (support::local(), GroupedLoader::default());
    let kinds = |many: Many<u64>| -> Vec<Result<Option<u64>, ErrorKind>> {
        let kind = |answer: terrace_core::Result<Option<terrace_core::Cached<u64>>>| {
            answer.map(|value| value.map(|value| *value)).map_err(|error| error.kind())
        };
        many.into_iter().map(kind).collect()
    };
    let panicking = async |keys: &[&str], value: Option<u64>| {
        let load = |missing: MissingKeys<String>| async move {
            tokio::time::sleep(ms(20)).await;
            let value = value.expect("a grouped loader that panics on purpose");
            let count = missing.keys().len();
            Ok::<_, BoxError>(missing.zip(std::iter::repeat_n(value, count)))
        };
        kinds(cache.get_or_load_many(&names(keys), load).await)
    };
    let first = panicking(&["a", "b"], None);
    let second = async {
        tokio::time::sleep(ms(5)).await;
        panicking(&["b", "c", "b"], Some(2)).await
    };
    let third = async {
        tokio::time::sleep(ms(10)).await;
        loads.load(&cache, &["a", "b"], 3).await
    };
    let (first, second, third) = tokio::join!(first, second, third);
    let panicked = Err(ErrorKind::Panicked);
    assert_eq!(first, [panicked, panicked]);
    assert_eq!(
        second,
        [panicked, Ok(Some(2)), panicked],
        "its loader has run for the key that nobody loaded"
    );
    assert_eq!((third, loads.runs()), (vec![Some(3), Some(3)], vec![names(&["a", "b"])]));
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_counts_what_near_had_not_and_what_it_shared() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    tier.set_latency(ms(5));
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let loads = GroupedLoader::default();
    let (first, second) =
        tokio::join!(loads.load(&cache, &["a", "b", "a"], 1), loads.load(&cache, &["a", "b"], 2));
    assert_eq!((first.len(), second), (3, first[..2].to_vec()));
    cache.settled().await;
    loads.load(&cache, &["a", "b"], 3).await;
    let stats = cache.stats();
    let near = stats.tier("near").unwrap();
    assert_eq!((near.hits, near.misses, stats.coalesced), (2, 4, 2));
    assert_eq!(loads.runs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_its_caller_left_while_it_renews_lets_nobody_down() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = renewing(builder(), &hand).tier(tier.clone()).build().unwrap();
    let loads = GroupedLoader::default();
    loads.load(&cache, &["stale"], 1).await;
    cache.settled().await;
    hand.advance(ms(2_000));
    tier.set_latency(ms(20));
    let batch = loads.load(&cache, &["stale", "missing"], 2);
    let other = async {
        tokio::time::sleep(ms(10)).await;
        cache.get_or_load("missing", || Loader::default().give(3, ms(1))).await
    };
    let (left, other) = tokio::join!(tokio::time::timeout(ms(30), batch), other);
    assert!(left.is_err(), "the batch must be cancelled between the two lookups");
    assert_eq!(other.unwrap(), 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cache.stats().flights, 0);
}
