//! One lookup and one load a key, whatever happens to the callers.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use support::{Loader, builder, fake, local, ms, without_near};
use terrace_conformance::{Call, Fault, Faulty};
use terrace_core::{BoxError, Clock, ErrorKind, Item, Source};
use tokio::time::Instant;

/// Each caller loads for itself.
struct Unshared;

impl terrace_core::Stampede for Unshared {
    fn coalesce(&self) -> terrace_core::Coalesce {
        terrace_core::Coalesce::Nobody
    }
}

#[tokio::test(start_paused = true)]
async fn loads_that_are_not_shared_fill_near_while_others_are_under_way() {
    let cache = builder().stampede(Unshared).build().unwrap();
    let loader = Loader::default();
    let caller = async |start, value| {
        tokio::time::sleep(ms(start)).await;
        *cache.get_or_load("k", || loader.give(value, ms(50))).await.unwrap()
    };
    let late = async {
        tokio::time::sleep(ms(60)).await;
        cache.get("k").await.unwrap().map(|hit| (*hit, hit.served().from))
    };
    let (first, second, late) = tokio::join!(caller(0, 1), caller(30, 2), late);
    assert_eq!((first, second, loader.runs()), (1, 2, 2));
    assert_eq!(late, Some((1, Source::Near)));
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_load() {
    let (cache, loader) = (local(), Loader::default());
    let callers = (0..1000).map(|_| cache.get_or_load("k", || loader.give(7, ms(50))));
    for value in join_all(callers).await {
        assert_eq!(value.unwrap(), 7);
    }
    assert_eq!(loader.runs(), 1);
    assert_eq!(cache.stats().coalesced, 999);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn all_methods_share_one_flight() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    tier.set_latency(ms(5));
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let loader = Loader::default();
    let reads = join_all((0..50).map(|_| cache.get("k")));
    let loads = join_all((0..50).map(|_| cache.get_or_load("k", || loader.give(1, ms(20)))));
    let with = cache.get_or_load_with("k", |_| loader.give(1, ms(20)));
    let many = [String::from("k")];
    let many = cache.get_many(&many);
    let (reads, loads, with, many) = tokio::join!(reads, loads, with, many);
    assert!(reads.into_iter().all(|read| read.unwrap().is_none()));
    assert!(loads.into_iter().all(|load| load.unwrap() == 1));
    assert_eq!(with.unwrap().unwrap(), 1);
    assert!(many.into_values().unwrap()[0].is_none());
    assert_eq!(loader.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_first_caller_leaves_the_load_to_the_others() {
    let (cache, loader) = (local(), Loader::default());
    let first = tokio::spawn({
        let (cache, loader) = (cache.clone(), loader.clone());
        async move { cache.get_or_load("k", || loader.give(3, ms(100))).await }
    });
    tokio::time::sleep(ms(10)).await;
    let second = tokio::spawn({
        let (cache, loader) = (cache.clone(), loader.clone());
        async move { cache.get_or_load("k", || loader.give(4, ms(100))).await }
    });
    tokio::time::sleep(ms(10)).await;
    first.abort();
    assert_eq!(second.await.unwrap().unwrap(), 3);
    assert_eq!(loader.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_everyone_left_still_ends_in_the_cache() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let cache = builder().clock(&hand).tier(tier).build().unwrap();
    let loader = Loader::default();
    let load = cache.get_or_load("k", || loader.give(5, ms(100)));
    assert!(tokio::time::timeout(ms(10), load).await.is_err());
    cache.settled().await;
    let hit = cache.get("k").await.unwrap().unwrap();
    assert_eq!((*hit, hit.served().from), (5, Source::Near));
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_its_first_caller_left_goes_on_for_the_others() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let writer = without_near().clock(&hand).tier(tier.another_handle()).build().unwrap();
    writer.put("k", 9).await.unwrap();
    // With a near tier: without one, plain reads share no lookup.
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    tier.set_latency(ms(20));
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("k").await }
    });
    tokio::time::sleep(ms(5)).await;
    let second = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("k").await }
    });
    tokio::time::sleep(ms(5)).await;
    first.abort();
    assert_eq!(second.await.unwrap().unwrap().unwrap(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_never_polled_again_holds_nobody_up() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    tier.set_latency(ms(5));
    let cache = builder().clock(&hand).tier(tier).build().unwrap();
    let loader = Loader::default();
    let mut first = Box::pin(cache.get_or_load("k", || loader.give(1, ms(5))));
    // Polled once, then forgotten with its lookup under way.
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = cache.get_or_load("k", || loader.give(2, ms(5)));
    let value = tokio::time::timeout(Duration::from_secs(1), second).await.unwrap().unwrap();
    assert_eq!(*value, 2);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_loader_hands_over_to_the_next_caller_at_once() {
    let (cache, loader) = (local(), Loader::default());
    let first = cache.get_or_load("k", || loader.panic(ms(20)));
    let second = async {
        tokio::time::sleep(ms(5)).await;
        cache.get_or_load("k", || loader.give(8, ms(1))).await
    };
    let began = Instant::now();
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!(second.unwrap(), 8);
    assert!(began.elapsed() <= ms(30), "{:?}", began.elapsed());
    assert_eq!(loader.runs(), 2);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_second_panic_all_callers_get_the_error() {
    let (cache, loader) = (local(), Loader::default());
    let callers = (0..100).map(|_| cache.get_or_load("k", || loader.panic(ms(10))));
    for error in join_all(callers).await {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Panicked);
    }
    assert_eq!(loader.runs(), 2);
    assert_eq!(cache.stats().flights, 0);
    assert_eq!(cache.get_or_load("k", || loader.give(1, ms(1))).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_before_its_future_leaves_nobody_waiting() {
    let (cache, loader) = (local(), Loader::default());
    let first = tokio::spawn({
        let cache = cache.clone();
        async move {
            let load = || -> std::future::Ready<Result<u64, BoxError>> { panic!("before the future") };
            cache.get_or_load("k", load).await
        }
    });
    assert!(first.await.unwrap_err().is_panic());
    assert_eq!(cache.get_or_load("k", || loader.give(2, ms(1))).await.unwrap(), 2);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn the_waiters_of_a_failed_load_share_its_error_and_do_not_stampede() {
    let (cache, loader) = (local(), Loader::default());
    let callers = (0..100).map(|_| cache.get_or_load("k", || loader.fail(ms(10))));
    for error in join_all(callers).await {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
        assert!(error.to_string().contains("the origin is away"), "{error}");
    }
    assert_eq!(loader.runs(), 1);
    assert_eq!(cache.stats().load_errors, 1);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_its_own_key_gets_a_typed_error() {
    let cache = local();
    let inner = cache.clone();
    let result = cache
        .get_or_load("k", move || async move {
            inner.get_or_load("k", || async { Ok::<_, BoxError>(1) }).await.map(|value| *value)
        })
        .await;
    let error = result.unwrap_err();
    assert!(error.to_string().contains("asked for the key that it is loading"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_comes_back_to_its_key_over_another_gets_a_typed_error() {
    let cache = local();
    let (outer, middle) = (cache.clone(), cache.clone());
    let result = cache
        .get_or_load("a", move || async move {
            let b = outer
                .get_or_load("b", move || async move {
                    middle.get_or_load("a", || async { Ok::<_, BoxError>(1) }).await.map(|value| *value)
                })
                .await?;
            Ok::<u64, terrace_core::Error>(*b)
        })
        .await;
    assert!(result.unwrap_err().to_string().contains("wait for itself"));
}

#[tokio::test(start_paused = true)]
async fn a_loader_may_ask_for_other_keys_and_read_its_own() {
    let cache = local();
    let inner = cache.clone();
    let value = cache
        .get_or_load("a", move || async move {
            assert!(inner.get("a").await?.is_none());
            let b = inner.get_or_load("b", || async { Ok::<_, BoxError>(20) }).await?;
            Ok::<u64, terrace_core::Error>(*b + 1)
        })
        .await;
    assert_eq!(value.unwrap(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_ends_at_the_deadline() {
    let cache = builder().load_deadline(ms(500)).build().unwrap();
    let began = Instant::now();
    let error = cache.get_or_load("k", std::future::pending::<Result<u64, BoxError>>).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(began.elapsed() <= ms(501));
}

#[tokio::test(start_paused = true)]
async fn a_grouped_load_asks_only_for_what_nobody_is_loading() {
    let (cache, loader) = (local(), Loader::default());
    cache.put("near", 1).await.unwrap();
    let single = cache.get_or_load("flying", || loader.give(2, ms(50)));
    let keys = ["near", "flying", "cold", "gone", "cold"].map(String::from);
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let many = async {
        tokio::time::sleep(ms(5)).await;
        cache
            .get_or_load_many(&keys, |missing| {
                seen.lock().unwrap().extend(missing.keys().to_vec());
                assert_eq!(missing.indices(), [2, 3]);
                async move { Ok::<_, BoxError>(vec![("cold".to_owned(), 3)]) }
            })
            .await
    };
    let (single, many) = tokio::join!(single, many);
    assert_eq!(single.unwrap(), 2);
    let values: Vec<_> =
        many.into_values().unwrap().into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(values, [Some(1), Some(2), Some(3), None, Some(3)]);
    assert_eq!(*asked.lock().unwrap(), ["cold", "gone"]);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_keys_are_one_trip() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    cache.put_many(keys.iter().cloned().zip(0..100)).await.into_iter().for_each(|put| {
        put.unwrap();
    });
    let before = tier.calls().trips();
    let values = cache.get_many(&keys).await.into_values().unwrap();
    assert_eq!(tier.calls().trips() - before, 1);
    assert!(values.iter().enumerate().all(|(at, value)| value.as_deref() == Some(&(at as u64))));
}

#[tokio::test(start_paused = true)]
async fn an_absent_item_answers_until_its_life_ends() {
    let hand = Clock::manual();
    let cache = builder().clock(&hand).tier(fake("fake", &hand)).build().unwrap();
    let loader = Loader::default();
    for _ in 0..3 {
        let load = |_| {
            let counted = loader.give(0, ms(0));
            async move { counted.await.map(|_| Item::<u64>::absent().ttl(ms(1000))) }
        };
        assert!(cache.get_or_load_with("k", load).await.unwrap().is_none());
        cache.settled().await;
    }
    assert_eq!(loader.runs(), 1);
    hand.advance(ms(1000));
    assert_eq!(cache.get_or_load("k", || loader.give(6, ms(0))).await.unwrap(), 6);
}

#[derive(Debug, serde::Serialize)]
struct Unlucky(u64);

impl<'de> serde::Deserialize<'de> for Unlucky {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        assert!(number != 13, "a type that panics on purpose when it is read");
        Ok(Self(number))
    }
}

async fn decoding_panics<N: terrace_core::Near<String, Unlucky>>(near: N) {
    let hand = Clock::manual();
    let (tier, name) = (fake("redis", &hand), "tests".to_owned());
    let writer = terrace_core::Builder::<String, Unlucky, _>::new(name.clone(), terrace_core::NoNear);
    let writer = writer.clock(&hand).tier(tier.clone()).build().unwrap();
    writer.put("k", Unlucky(13)).await.unwrap();
    let cache = terrace_core::Builder::<String, Unlucky, _>::new(name, near);
    let cache = cache.clock(&hand).tier(tier.another_handle()).build().unwrap();
    tier.set_latency(ms(10));
    let reads = join_all((0..3).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("k").await.map(|_| ()) })
    }));
    // The time limit: no reader is left waiting.
    for read in tokio::time::timeout(ms(1_000), reads).await.unwrap() {
        assert_eq!(read.unwrap().unwrap_err().kind(), ErrorKind::Panicked);
    }
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_panics_when_decoded_is_a_typed_error_for_all_who_wait() {
    decoding_panics(terrace_tier_memory::Memory::entries(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_that_panics_when_decoded_is_a_typed_error_without_near_too() {
    decoding_panics(terrace_core::NoNear).await;
}

struct Curious(Arc<std::sync::OnceLock<support::Stack>>);

impl terrace_core::Observer for Curious {
    fn observe(&self, _: &str, _: &terrace_core::Event<'_>) {
        if let Some(cache) = self.0.get() {
            let _ = cache.stats();
        }
    }
}

#[test]
fn an_observer_may_ask_for_the_stats() {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let slot = Arc::new(std::sync::OnceLock::new());
            let cache = builder().observer(Curious(Arc::clone(&slot))).build().unwrap();
            let _ = slot.set(cache.clone());
            cache.put("k", 1).await.unwrap();
            cache.get_or_load("other", || Loader::default().give(1, ms(0))).await.unwrap();
            cache.invalidate("k").await.unwrap();
        });
        send.send(()).unwrap();
    });
    receive.recv_timeout(Duration::from_secs(10)).expect("the observer waits for a lock of its caller's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_on_many_threads_that_race_with_a_landing_do_not_load_again() {
    const KEYS: usize = 20_000;
    let builder =
        terrace_core::Builder::new("tests".to_owned(), terrace_tier_memory::Memory::entries(100_000));
    let cache: support::Stack = builder.build().unwrap();
    let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let caller = || {
        let (cache, runs) = (cache.clone(), Arc::clone(&runs));
        tokio::spawn(async move {
            for key in 0..KEYS {
                let runs = Arc::clone(&runs);
                let load = async move {
                    runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    Ok::<_, BoxError>(1)
                };
                cache.get_or_load(&key.to_string(), || load).await.unwrap();
            }
        })
    };
    join_all((0..4).map(|_| caller())).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), KEYS);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_load_whose_runtime_has_shut_down_is_a_typed_error_for_all_who_wait() {
    let (owner, other) = (runtime(), runtime());
    let cache = owner.block_on(async { local() });
    let waiting = other.spawn({
        let cache = cache.clone();
        async move {
            let load = || cache.get_or_load("k", std::future::pending::<Result<u64, BoxError>>);
            join_all([load(), load()]).await
        }
    });
    while cache.stats().flights == 0 {
        std::thread::yield_now();
    }
    owner.shutdown_timeout(Duration::from_secs(10));
    for error in other.block_on(waiting).unwrap() {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Closed);
    }
    let after = other.block_on(cache.get_or_load("k", || Loader::default().give(1, ms(0))));
    assert_eq!(after.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(cache.stats().flights, 0);
}

/// The copies are filled off the caller's path; until then their tiers have the old value.
#[tokio::test(start_paused = true)]
async fn what_a_refresh_gave_is_read_while_it_is_filled() {
    let hand = Clock::manual();
    let redis = Faulty::new(fake("redis", &hand));
    let cache = without_near().clock(&hand).tier(redis.clone()).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    redis.arm(Fault::delay(ms(20)).on(Call::Fill));
    assert_eq!(cache.refresh("k", |_| loader.give(2, ms(1))).await.unwrap().map(|value| *value), Some(2));
    assert_eq!(*cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 2);
    let nothing = |_| async { Ok::<Vec<(String, u64)>, BoxError>(vec![]) };
    let many = cache.get_or_load_many(&["k".to_owned()], nothing).await.into_values().unwrap();
    let many: Vec<_> = many.into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(many, [Some(2)]);
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().map(|value| *value), Some(2));
    assert_eq!(loader.runs(), 1);
}
