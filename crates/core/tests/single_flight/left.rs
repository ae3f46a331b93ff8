//! Callers that are dropped, and a runtime that shuts down, during a flight.

use std::time::Duration;

use futures_util::future::join_all;
use terrace_core::{BoxError, ErrorKind, Source};
use terrace_tier::Clock;

use crate::support::{Loader, builder, fake, local, ms, without_near};

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
