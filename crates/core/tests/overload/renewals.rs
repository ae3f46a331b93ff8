//! Renewals in the background give way to loads that callers wait for.

use terrace_tier::Clock;
use tokio::time::Instant;

use crate::{
    begin, secs, settle,
    support::{Loader, OnStaleHit, ms},
    with_stale_time,
};
use terrace_core::policy::{Freshness, OnStale, StaleHit};

#[tokio::test(start_paused = true)]
async fn renewals_take_half_of_the_limit_and_are_tried_again_later() {
    let hand = Clock::manual();
    let policy = OnStaleHit(OnStale::ServeAndRefresh);
    let cache = with_stale_time(&hand).freshness(policy).max_loads(4).build().unwrap();
    let (renewals, loader) = (Loader::default(), Loader::default());
    for key in 0..10 {
        cache.put(&key.to_string(), 1).await.unwrap();
    }
    hand.advance(secs(2));
    for key in 0..10 {
        let answer = cache.get_or_load(&key.to_string(), || renewals.give(2, ms(500))).await.unwrap();
        assert_eq!((*answer, answer.served().stale), (1, true));
    }
    settle().await;
    assert_eq!((renewals.runs(), cache.stats().loads_under_way, cache.stats().loads_refused), (2, 2, 8));
    let began = Instant::now();
    assert_eq!(cache.get_or_load("new", || loader.give(3, ms(1))).await.unwrap(), 3);
    assert!(began.elapsed() <= ms(3), "a load that a caller waits for has a permit: {:?}", began.elapsed());
    // A refused renewal is not tried by each read, but after its pause.
    for key in 0..10 {
        cache.get_or_load(&key.to_string(), || renewals.give(2, ms(500))).await.unwrap();
    }
    settle().await;
    assert_eq!((renewals.runs(), cache.stats().loads_refused), (2, 8));
    cache.settled().await;
    hand.advance(secs(2));
    cache.get_or_load("9", || renewals.give(2, ms(1))).await.unwrap();
    cache.settled().await;
    assert_eq!((renewals.runs(), cache.get("9").await.unwrap().unwrap().served().stale), (3, false));
}

/// Serves stale values for the first seconds of their stale time.
struct ServeForTwoSeconds;

impl Freshness for ServeForTwoSeconds {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        if hit.stale_for < secs(2) { OnStale::ServeAndRefresh } else { OnStale::Miss }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_a_refused_renewal_loads_for_itself() {
    let hand = Clock::manual();
    let tier = crate::support::fake("redis", &hand);
    let cache =
        with_stale_time(&hand).freshness(ServeForTwoSeconds).tier(tier.clone()).max_loads(2).build().unwrap();
    let loader = Loader::default();
    for key in ["a", "k"] {
        cache.put(key, 1).await.unwrap();
    }
    hand.advance(ms(2_900));
    cache.get_or_load("a", || loader.give(2, secs(5))).await.unwrap();
    settle().await;
    assert_eq!((loader.runs(), cache.stats().loads_under_way), (1, 1));
    // The lookup of the renewal takes long enough for the caller to join it.
    tier.set_latency(ms(20));
    assert_eq!(cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 1);
    // The renewal waits for its lookup before the caller does, so it comes to its load first.
    settle().await;
    hand.advance(ms(200));
    let waits = begin(&cache, "k", loader.give(4, ms(1))).await;
    assert_eq!(waits.await.unwrap().unwrap(), 4);
    assert_eq!((loader.runs(), cache.stats().loads_refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn renewals_do_not_overtake_loads_that_wait() {
    let hand = Clock::manual();
    let policy = OnStaleHit(OnStale::ServeAndRefresh);
    let cache = with_stale_time(&hand).freshness(policy).max_loads(1).build().unwrap();
    let (loader, renewals) = (Loader::default(), Loader::default());
    cache.put("stale", 1).await.unwrap();
    hand.advance(secs(2));
    let held = begin(&cache, "a", loader.give(1, ms(50))).await;
    let waits = begin(&cache, "b", loader.give(2, ms(50))).await;
    cache.get_or_load("stale", || renewals.give(9, ms(1))).await.unwrap();
    assert_eq!((held.await.unwrap().unwrap(), waits.await.unwrap().unwrap()), (1, 2));
    assert_eq!((loader.runs(), renewals.runs()), (2, 0));
}
