//! After a failure a key is tried once per pause, over all callers of the process.

use futures_util::future::join_all;
use terrace_core::{
    ErrorKind, MissingKeys,
    policy::{Freshness, OnStale, StaleHit},
};
use terrace_tier::Clock;
use tokio::time::Instant;

use crate::{
    ServeAlways, secs,
    support::{Loader, OnStaleHit, ServeOnError, builder, fake, ms, pass, without_near},
    with_stale_time,
};

/// The tries of a key in five seconds: at once, after 1 to 1.5 s, and 2 to 3 s after that.
const TRIES: usize = 3;

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_once_per_pause_whatever_the_number_of_readers() {
    let hand = Clock::manual();
    let policies = [OnStaleHit(OnStale::ServeAndRefresh), OnStaleHit(OnStale::ServeAndRefresh)];
    for (policy, tiered) in policies.into_iter().zip([false, true]) {
        let mut builder = with_stale_time(&hand).freshness(policy);
        if tiered {
            builder = builder.near(crate::support::Near::off()).tier(fake("redis", &hand));
        }
        let (cache, loader) = (builder.build().unwrap(), Loader::default());
        cache.put("k", 1).await.unwrap();
        hand.advance(secs(2));
        for _ in 0..100 {
            let reads = join_all((0..50).map(|_| cache.get_or_load("k", || loader.fail(ms(1))))).await;
            assert!(reads.into_iter().all(|answer| *answer.unwrap() == 1));
            pass(&hand, ms(50)).await;
        }
        assert_eq!(loader.runs(), TRIES, "with a shared tier: {tiered}");
        cache.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_stale_value_answers_at_once_and_one_caller_tries_per_pause() {
    let hand = Clock::manual();
    for tiered in [false, true] {
        let mut builder = with_stale_time(&hand).freshness(ServeOnError);
        if tiered {
            builder = builder.near(crate::support::Near::off()).tier(fake("redis", &hand));
        }
        let (cache, loader) = (builder.build().unwrap(), Loader::default());
        cache.put("k", 1).await.unwrap();
        hand.advance(secs(2));
        assert_eq!(cache.get_or_load("k", || loader.fail(ms(100))).await.unwrap(), 1);
        assert_eq!((loader.runs(), cache.stats().keys_in_backoff), (1, 1));
        for _ in 0..98 {
            let began = Instant::now();
            let reads = join_all((0..50).map(|_| cache.get_or_load("k", || loader.fail(ms(0))))).await;
            assert!(reads.into_iter().all(|answer| answer.unwrap().served().stale));
            assert!(began.elapsed() <= ms(1), "{:?}", began.elapsed());
            pass(&hand, ms(50)).await;
        }
        assert_eq!(loader.runs(), TRIES, "with a shared tier: {tiered}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_try_after_the_pause_gives_the_new_value_and_ends_the_pauses() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    assert_eq!(cache.get_or_load("k", || loader.fail(ms(1))).await.unwrap(), 1);
    assert_eq!(cache.get_or_load("k", || loader.give(2, ms(1))).await.unwrap(), 1, "the pause");
    pass(&hand, ms(1_500)).await;
    assert_eq!(cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 3);
    assert_eq!((loader.runs(), cache.stats().keys_in_backoff), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_nothing_to_serve_always_loads_and_gets_its_own_error() {
    let cache = builder().freshness(ServeOnError).build().unwrap();
    let loader = Loader::default();
    for run in 1..=5 {
        let error = cache.get_or_load("k", || loader.fail(ms(1))).await.unwrap_err();
        assert_eq!((error.kind(), loader.runs()), (ErrorKind::Load, run));
    }
    assert_eq!(cache.stats().keys_in_backoff, 0, "nothing would be served during a pause");
    // Callers at one time share one load, so that fifty of them are no storm.
    join_all((0..50).map(|_| cache.get_or_load("k", || loader.fail(ms(10))))).await;
    assert_eq!(loader.runs(), 6);
    assert_eq!(cache.get_or_load("k", || loader.give(1, ms(1))).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_key_is_loaded_during_its_pause_and_a_refresh_tries_at_any_time() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    assert_eq!(cache.get_or_load("k", || loader.fail(ms(1))).await.unwrap(), 1);
    assert_eq!(cache.refresh("k", |_| loader.give(2, ms(1))).await.unwrap().unwrap(), 2);
    assert_eq!(cache.stats().keys_in_backoff, 0);
    hand.advance(secs(2));
    assert_eq!(cache.get_or_load("k", || loader.fail(ms(1))).await.unwrap(), 2);
    cache.invalidate("k").await.unwrap();
    assert_eq!(cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_batch_keeps_to_the_pauses_of_its_keys() {
    let hand = Clock::manual();
    let policies = [Box::new(ServeOnError) as Box<dyn Freshness>, Box::new(ServeAlways)];
    for policy in policies {
        let cache = with_stale_time(&hand).freshness(Boxed(policy)).build().unwrap();
        let loader = Loader::default();
        let keys: Vec<String> = (0..10).map(|key| key.to_string()).collect();
        for key in &keys {
            cache.put(key, 1).await.unwrap();
        }
        hand.advance(secs(2));
        let read = || {
            let load = |_: MissingKeys<String>| {
                let failed = loader.fail(ms(0));
                async move { failed.await.map(|_| Vec::<(String, u64)>::new()) }
            };
            cache.get_or_load_many(&keys, load)
        };
        for _ in 0..20 {
            assert!(
                read().await.into_values().unwrap().into_iter().all(|value| value.as_deref() == Some(&1))
            );
            cache.settled().await;
        }
        assert_eq!((loader.runs(), cache.stats().keys_in_backoff), (1, 10));
        pass(&hand, ms(1_500)).await;
        read().await;
        cache.settled().await;
        assert_eq!(loader.runs(), 2);
    }
}

struct Boxed(Box<dyn Freshness>);

impl Freshness for Boxed {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        self.0.on_stale(hit)
    }

    fn on_error(&self, hit: &StaleHit) -> bool {
        self.0.on_error(hit)
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_panics_pauses_too() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeAlways).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    for _ in 0..20 {
        assert_eq!(cache.get_or_load("k", || loader.panic(ms(1))).await.unwrap(), 1);
        cache.settled().await;
    }
    assert_eq!(loader.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_asked_once_per_pause_where_a_stale_copy_answers() {
    let hand = Clock::manual();
    for near in [true, false] {
        let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
        let builder = with_stale_time(&hand).freshness(ServeOnError);
        let builder = if near { builder } else { builder.near(crate::support::Near::off()) };
        let cache = builder.tier(tier.clone()).store(store.clone()).build().unwrap();
        cache.put("k", 1).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
        cache.settled().await;
        hand.advance(secs(2));
        store.set_down(true);
        for _ in 0..50 {
            let answer = cache.get("k").await.unwrap().unwrap();
            assert_eq!((*answer, answer.served().stale), (1, true), "near: {near}");
            pass(&hand, ms(1)).await;
        }
        assert_eq!(cache.stats().tier("postgres").unwrap().errors, 1, "near: {near}");
        store.set_down(false);
        pass(&hand, ms(1_500)).await;
        let answer = cache.get("k").await.unwrap().unwrap();
        assert_eq!((*answer, answer.served().stale), (1, false), "near: {near}");
        assert_eq!(cache.stats().keys_in_backoff, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_read_that_cannot_renew_a_value_does_not_use_up_the_try_of_others() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let expiry = crate::support::FixedExpiry::fresh(secs(1)).stale(secs(3_600));
    let cache =
        without_near().clock(&hand).expire(expiry).freshness(ServeOnError).tier(tier).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    assert_eq!(cache.get_or_load("k", || loader.fail(ms(1))).await.unwrap(), 1);
    pass(&hand, ms(1_500)).await;
    assert!(cache.get("k").await.unwrap().is_none(), "nothing failed for this caller");
    assert_eq!(cache.get_or_load("k", || loader.give(2, ms(1))).await.unwrap(), 2);
}
