//! Where a call is made from: several runtimes one after another, none at all, or one without timers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{sync::OnceLock, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use support::{Loader, ReplayableStore, Stack, builder, fake, local, ms, without_near};
use terrace_core::{BoxError, Clock, Error, ErrorKind, Level, Result};
use tokio::runtime::{Builder, Runtime};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A cache of each kind, built where there is no runtime.
fn stacks() -> Vec<Stack> {
    let hand = Clock::manual();
    let tier = |name| fake(name, &hand);
    let builders = [
        builder(),
        builder().tier(tier("redis")),
        builder().tier(tier("redis").with_log()),
        builder().tier(tier("redis")).level(Level::Ttl),
        builder().tier(tier("redis")).store(tier("db")),
        builder().tier(tier("redis").with_log()).store(ReplayableStore(tier("db"))),
        builder().store(tier("db")).level(Level::Strong),
        without_near().tier(tier("redis")),
    ];
    builders.into_iter().map(|stack| stack.clock(&hand).build().unwrap()).collect()
}

/// What a test of an application does with its cache.
async fn work(cache: &Stack, round: u64) {
    let key = format!("k{round}");
    let loader = Loader::default();
    assert_eq!(cache.get_or_load(&key, || loader.give(round, ms(1))).await.unwrap(), round);
    cache.settled().await;
    assert_eq!(cache.get(&key).await.unwrap().unwrap(), round);
    cache.put(&key, round + 1).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap().unwrap(), round + 1);
    cache.invalidate(&key).await.unwrap();
    let refreshed = cache.refresh(&key, |_| async move { Ok::<_, BoxError>(Some(round + 2)) }).await.unwrap();
    assert!(refreshed.is_some());
    assert_eq!(cache.get_many(std::slice::from_ref(&key)).await.into_values().unwrap().len(), 1);
    cache.remove(&key).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), None);
    cache.clear().await.unwrap();
    cache.ping().await.unwrap();
}

#[test]
fn a_cache_that_was_built_outside_of_a_runtime_serves_one_runtime_after_another() {
    for cache in stacks() {
        for round in 0..6 {
            let runtime = if round % 2 == 0 { current_thread() } else { multi_thread() };
            runtime.block_on(work(&cache, round));
        }
    }
}

#[test]
fn runtimes_of_both_kinds_use_a_cache_at_once() {
    for cache in stacks() {
        let starts = (0..6).map(|round| {
            let cache = cache.clone();
            std::thread::spawn(move || {
                let runtime = if round % 2 == 0 { current_thread() } else { multi_thread() };
                runtime.block_on(async {
                    let key = format!("k{round}");
                    let own = Loader::default();
                    assert_eq!(cache.get_or_load(&key, || own.give(round, ms(1))).await.unwrap(), round);
                    cache.put(&key, round + 1).await.unwrap();
                    assert_eq!(cache.get(&key).await.unwrap().unwrap(), round + 1);
                    let shared = Loader::default();
                    for number in 0..20 {
                        let key = format!("shared{number}");
                        assert_eq!(cache.get_or_load(&key, || shared.give(7, ms(1))).await.unwrap(), 7);
                    }
                });
            })
        });
        for thread in starts.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
    }
}

/// One static cache, three tests of an application, each with a runtime of its own.
static SHARED: OnceLock<Stack> = OnceLock::new();

fn shared() -> &'static Stack {
    SHARED.get_or_init(|| {
        let hand = Clock::manual();
        builder().clock(&hand).tier(fake("redis", &hand).with_log()).build().unwrap()
    })
}

#[tokio::test]
async fn a_static_cache_serves_a_first_test() {
    let loader = Loader::default();
    assert_eq!(shared().get_or_load("one", || loader.give(1, ms(1))).await.unwrap(), 1);
}

#[tokio::test]
async fn a_static_cache_serves_a_second_test() {
    let loader = Loader::default();
    assert_eq!(shared().get_or_load("two", || loader.give(2, ms(1))).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_cache_serves_a_third_test() {
    let loader = Loader::default();
    assert_eq!(shared().get_or_load("three", || loader.give(3, ms(1))).await.unwrap(), 3);
}

/// A caller elsewhere has joined the lookup of a runtime that ends in the middle of it.
#[test]
fn a_runtime_that_ends_in_the_middle_of_a_lookup_leaves_nobody_waiting() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    tier.set_latency(ms(30));
    let cache = builder().clock(&hand).tier(tier).build().unwrap();
    for round in 0..20 {
        let (doomed, other) = (multi_thread(), multi_thread());
        let key = format!("k{round}");
        let read = |cache: &Stack| {
            let (cache, key) = (cache.clone(), key.clone());
            async move { cache.get_or_load(&key, || Loader::default().give(1, ms(5))).await }
        };
        let lost = doomed.spawn(read(&cache));
        std::thread::sleep(ms(round));
        let left = other.spawn(read(&cache));
        std::thread::sleep(ms(round));
        doomed.shutdown_background();
        let answer = other.block_on(async { tokio::time::timeout(Duration::from_secs(10), left).await });
        assert_eq!(answer.expect("an answer").unwrap().unwrap(), 1, "round {round}");
        drop(lost);
    }
}

/// Another runtime lives, and nothing drives it any more.
#[test]
fn a_runtime_that_stands_still_in_the_middle_of_a_lookup_or_load_holds_up_nobody() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(tier.clone()).load_deadline(ms(200)).build().unwrap();
    let stands_still = current_thread();
    for (key, latency, pause) in [("lookup", 10_000, 1), ("load", 0, 10_000)] {
        tier.set_latency(ms(latency));
        stands_still.block_on(async {
            let cache = cache.clone();
            tokio::spawn(
                async move { cache.get_or_load(key, || Loader::default().give(1, ms(pause))).await },
            );
            tokio::time::sleep(ms(10)).await;
        });
        tier.set_latency(ms(0));
        let other = current_thread();
        let read = async { cache.get_or_load(key, || Loader::default().give(2, ms(1))).await };
        let read = other.block_on(async { tokio::time::timeout(Duration::from_secs(5), read).await });
        assert_eq!(read.expect("in time").unwrap(), 2, "{key}");
    }
}

fn config_of<T>(answer: Result<T, Error>) -> bool {
    answer.is_err_and(|error| error.kind() == ErrorKind::Config && error.to_string().contains("runtime"))
}

/// Whether each method fails with the one error for a call without a usable runtime.
fn refusals(cache: &Stack) -> Vec<(&'static str, BoxFuture<'_, bool>)> {
    let keys = || vec!["k".to_owned()];
    let load = || Loader::default().give(1, ms(0));
    let refreshed = |_| async { Loader::default().give(1, ms(0)).await.map(Some) };
    let loaded = |_| async { Ok::<_, BoxError>(Vec::<(String, u64)>::new()) };
    vec![
        ("get", cache.get("k").map(config_of).boxed()),
        ("get_or_load", cache.get_or_load("k", load).map(config_of).boxed()),
        ("refresh", cache.refresh("k", refreshed).map(config_of).boxed()),
        ("ttl", cache.ttl("k").map(config_of).boxed()),
        ("expire", cache.expire("k", ms(1)).map(config_of).boxed()),
        ("put", cache.put("k", 1).map(config_of).boxed()),
        ("invalidate", cache.invalidate("k").map(config_of).boxed()),
        ("remove", cache.remove("k").map(config_of).boxed()),
        ("clear", cache.clear().map(config_of).boxed()),
        ("ping", cache.ping().map(config_of).boxed()),
        ("ready", cache.ready().map(config_of).boxed()),
        ("get_many", async move { config_of(cache.get_many(&keys()).await.into_values()) }.boxed()),
        (
            "get_or_load_many",
            async move { config_of(cache.get_or_load_many(&keys(), loaded).await.into_values()) }.boxed(),
        ),
    ]
}

#[test]
fn every_method_without_a_runtime_is_one_config_error() {
    for cache in stacks().into_iter().skip(1) {
        for (method, refusal) in refusals(&cache) {
            assert!(refusal.now_or_never().unwrap(), "{method} of {cache:?}");
        }
    }
}

#[test]
fn every_method_in_a_runtime_without_timers_is_one_config_error() {
    let without_time = Builder::new_current_thread().build().unwrap();
    for cache in stacks().into_iter().skip(1) {
        for (method, refusal) in refusals(&cache) {
            assert!(without_time.block_on(refusal), "{method} of {cache:?}");
        }
    }
}

#[test]
fn a_cache_without_other_tiers_needs_a_runtime_for_loads_alone() {
    let cache = local();
    assert_eq!(cache.get("k").now_or_never().unwrap().unwrap(), None);
    cache.put("k", 1).now_or_never().unwrap().unwrap();
    assert_eq!(cache.get("k").now_or_never().unwrap().unwrap().unwrap(), 1);
    let never = || Loader::default().give(2, ms(0));
    assert_eq!(cache.get_or_load("k", never).now_or_never().unwrap().unwrap(), 1, "a near hit needs none");
    cache.invalidate("k").now_or_never().unwrap().unwrap();
    assert!(config_of(cache.get_or_load("k", never).now_or_never().unwrap()));
    cache.close().now_or_never().unwrap();
}

/// The task that repays debts, and the one that probes, have ended with their runtime.
#[test]
fn debts_are_repaid_and_a_lost_tier_is_found_again_in_the_next_runtime() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    current_thread().block_on(async {
        cache.put("k", 1).await.unwrap();
        tier.set_down(true);
        for _ in 0..20 {
            let _failed = cache.invalidate("k").await;
        }
    });
    assert!(cache.stats().tier("redis").unwrap().lost);
    tier.set_down(false);
    current_thread().block_on(async {
        let repaid = async {
            while cache.get_or_load("k", || Loader::default().give(2, ms(0))).await.is_err()
                || cache.stats().tier("redis").unwrap().lost
                || cache.stats().tier("redis").unwrap().fills == 0
            {
                cache.invalidate("other").await.ok();
                cache.settled().await;
                let _read = cache.get_or_load("other", || Loader::default().give(3, ms(0))).await;
                tokio::time::sleep(ms(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), repaid).await.expect("found again");
        let copies = without_near().clock(&hand).tier(tier.another_handle()).build().unwrap();
        let dropped = async {
            while copies.get("k").await.unwrap().is_some_and(|value| value == 1) {
                tokio::time::sleep(ms(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), dropped).await.expect("the old copy is dropped");
    });
}
