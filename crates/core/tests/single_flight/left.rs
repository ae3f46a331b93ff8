//! Callers that are dropped, and a runtime that shuts down, during a flight.

use std::time::Duration;

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use terrace_core::{BoxError, Level, MissingKeys, Source, policy::Coalesce};
use terrace_tier::Clock;

use crate::support::{FixedStampede, Loader, Stack, builder, fake, local, ms, without_near};

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
    // The cache has a near tier, because plain reads share no lookup without one.
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
    // The first call is polled once and then never again, with its lookup under way.
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = cache.get_or_load("k", || loader.give(2, ms(5)));
    let value = tokio::time::timeout(Duration::from_secs(1), second).await.unwrap().unwrap();
    assert_eq!(*value, 2);
    drop(first);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn of_a_load_whose_runtime_has_shut_down_another_caller_takes_over() {
    let (owner, other) = (runtime(), runtime());
    let cache = local();
    let lost = owner.spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("k", std::future::pending::<Result<u64, BoxError>>).await }
    });
    while cache.stats().loads + cache.stats().flights as u64 == 0 {
        std::thread::yield_now();
    }
    let loader = Loader::default();
    let waiting = other.spawn({
        let (cache, loader) = (cache.clone(), loader.clone());
        async move {
            let load = || cache.get_or_load("k", || loader.give(1, ms(5)));
            join_all([load(), load()]).await
        }
    });
    std::thread::sleep(ms(20));
    owner.shutdown_timeout(Duration::from_secs(10));
    for answer in other.block_on(waiting).unwrap() {
        assert_eq!(answer.unwrap(), 1);
    }
    assert_eq!(loader.runs(), 1, "the others follow the one that takes over");
    assert_eq!(cache.stats().flights, 0);
    drop(lost);
}

/// Stacks of each kind, without values. Each request to a tier takes 5 ms.
fn stacks() -> Vec<Stack> {
    let hand = Clock::manual();
    let tier = |name| {
        let tier = fake(name, &hand);
        tier.set_latency(ms(5));
        tier
    };
    let (lease, strong) = (FixedStampede(Coalesce::Lease), Level::Strong);
    let builders = [
        builder().tier(tier("redis")),
        builder().tier(tier("redis")).stampede(lease),
        builder().tier(tier("redis")).tier(tier("postgres")).level(Level::Ttl),
        builder().tier(tier("redis")).store(tier("db")),
        builder().tier(tier("redis")).store(tier("db")).level(strong),
        without_near().tier(tier("redis")),
    ];
    builders.into_iter().map(|stack| stack.clock(&hand).build().unwrap()).collect()
}

/// One call of each method; a loader takes 10 ms.
fn calls(cache: &Stack) -> Vec<BoxFuture<'_, ()>> {
    let load = || Loader::default().give(1, ms(10));
    let refreshed = |_| async { Loader::default().give(1, ms(10)).await.map(Some) };
    let grouped = |missing: MissingKeys<String>| async move {
        tokio::time::sleep(ms(10)).await;
        let count = missing.keys().len();
        Ok::<_, BoxError>(missing.zip(std::iter::repeat_n(1, count)))
    };
    let keys = || ["k", "l", "k"].map(String::from);
    vec![
        async { drop(cache.get("k").await) }.boxed(),
        async move { drop(cache.get_or_load("k", load).await) }.boxed(),
        async move { drop(cache.refresh("k", refreshed).await) }.boxed(),
        async move { drop(cache.get_many(&keys()).await) }.boxed(),
        async move { drop(cache.get_or_load_many(&keys(), grouped).await) }.boxed(),
        async { drop(cache.put("k", 1).await) }.boxed(),
        async move { drop(cache.remove_many(&keys()).await) }.boxed(),
        async { drop(cache.expire("k", ms(60_000)).await) }.boxed(),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_any_method_that_leaves_at_any_moment_leaves_nothing_behind() {
    for (kind, method) in (0..stacks().len()).flat_map(|kind| (0..8).map(move |method| (kind, method))) {
        for leaves_at in (0..60).step_by(3).map(ms) {
            let cache = stacks().remove(kind);
            let leaving = tokio::time::timeout(leaves_at, calls(&cache).remove(method));
            let joining = async {
                tokio::time::sleep(ms(1)).await;
                cache.get_or_load("k", || Loader::default().give(1, ms(10))).await
            };
            let both = tokio::time::timeout(ms(5_000), async { tokio::join!(leaving, joining).1 });
            let context = format!("stack {kind}, method {method}, left at {leaves_at:?}");
            assert_eq!(*both.await.expect(&context).expect(&context), 1, "{context}");
            cache.settled().await;
            assert_eq!(cache.stats().flights, 0, "{context}");
            // The next write waits for no fill, and the next read for no flight.
            let after = tokio::time::timeout(ms(1_000), async {
                cache.put("k", 2).await.expect(&context);
                *cache.get("k").await.expect(&context).expect(&context)
            });
            assert_eq!(after.await.expect(&context), 2, "{context}");
        }
    }
}
