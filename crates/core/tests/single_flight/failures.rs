//! Loaders that fail, panic or hang, and values that panic when they are decoded.

use futures_util::future::join_all;
use terrace_core::{BoxError, Builder, ErrorKind, MissingKeys, NoNear, near::Near};
use terrace_tier::Clock;
use terrace_tier_memory::Memory;
use tokio::time::Instant;

use crate::support::{FixedExpiry, Loader, ServeOnError, builder, fake, local, ms};

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
async fn a_loader_that_hangs_ends_at_the_deadline() {
    let cache = builder().load_deadline(ms(500)).build().unwrap();
    let began = Instant::now();
    let error = cache.get_or_load("k", std::future::pending::<Result<u64, BoxError>>).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(began.elapsed() <= ms(501));
}

#[derive(Debug, serde::Serialize)]
struct Unlucky(u64);

impl<'de> serde::Deserialize<'de> for Unlucky {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(from)?;
        assert!(number != 13, "a type that panics on purpose when it is decoded");
        Ok(Self(number))
    }
}

async fn decoding_panics<N: Near<String, Unlucky>>(near: N) {
    let hand = Clock::manual();
    let (tier, name) = (fake("redis", &hand), "tests".to_owned());
    let writer = Builder::<String, Unlucky, _>::new(name.clone(), NoNear);
    let writer = writer.clock(&hand).tier(tier.clone()).build().unwrap();
    writer.put("k", Unlucky(13)).await.unwrap();
    let cache = Builder::<String, Unlucky, _>::new(name, near);
    let cache = cache.clock(&hand).tier(tier.another_handle()).build().unwrap();
    tier.set_latency(ms(10));
    let reads = join_all((0..3).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("k").await.map(|_| ()) })
    }));
    // The time limit shows that no reader waits for ever.
    for read in tokio::time::timeout(ms(1_000), reads).await.unwrap() {
        assert_eq!(read.unwrap().unwrap_err().kind(), ErrorKind::Panicked);
    }
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_panics_when_decoded_is_a_typed_error_for_all_who_wait() {
    decoding_panics(Memory::entries(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_that_panics_when_decoded_is_a_typed_error_without_near_too() {
    decoding_panics(NoNear).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panicked_is_answered_by_the_stale_value_where_the_policy_serves_it_on_errors() {
    let hand = Clock::manual();
    let lives = FixedExpiry::fresh(ms(1_000)).stale(ms(60_000));
    let cache = builder().clock(&hand).expire(lives).freshness(ServeOnError).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(ms(2_000));
    // The stale value answers all of them, so no other caller's loader takes over.
    for answer in join_all((0..3).map(|_| cache.get_or_load("k", || loader.panic(ms(10))))).await {
        let answer = answer.unwrap();
        assert_eq!((*answer, answer.served().stale), (1, true));
    }
    assert_eq!((loader.runs(), cache.stats().stale_served, cache.stats().flights), (1, 3, 0));
    let keys = ["k".to_owned()];
    // The pause after the panic ends.
    hand.advance(ms(2_000));
    let load = |missing: MissingKeys<String>| async move {
        assert!(missing.keys().is_empty(), "a grouped loader that panics on purpose");
        Ok::<_, BoxError>(Vec::<(String, u64)>::new())
    };
    let answers = cache.get_or_load_many(&keys, load).await.into_values().unwrap();
    assert_eq!(answers[0].as_deref(), Some(&1));
}
