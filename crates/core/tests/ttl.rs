//! Level `Ttl`: nothing orders processes, but a process does not undo its own writes.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use support::{Loader, Stack, fake, ms, without_near};
use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::{ErrorKind, Level, Source};
use terrace_tier::Clock;

/// Two shared tiers with 1 in the farther one, and a slow fill of that value into the nearer one.
async fn with_a_copy_under_way() -> (Stack, Fake) {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = without_near().clock(&hand).level(Level::Ttl).tier(redis.clone()).tier(postgres);
    let cache = stack.build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert!(redis.evict("tests", b"k"));
    redis.set_latency(ms(20));
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    tokio::time::sleep(ms(1)).await;
    redis.set_latency(ms(0));
    (cache, redis)
}

#[tokio::test(start_paused = true)]
async fn a_copy_on_its_way_to_a_nearer_tier_does_not_land_on_a_put() {
    let (cache, _) = with_a_copy_under_way().await;
    cache.put("k", 2).await.unwrap();
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_copy_on_its_way_to_a_nearer_tier_does_not_undo_an_invalidate_or_a_clear() {
    let (cache, _) = with_a_copy_under_way().await;
    cache.invalidate("k").await.unwrap();
    cache.settled().await;
    assert!(cache.get("k").await.unwrap().is_none());

    let (cache, _) = with_a_copy_under_way().await;
    cache.clear().await.unwrap();
    cache.settled().await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_a_tier_may_yet_take_is_read_past() {
    let hand = Clock::manual();
    let (redis, postgres) = (Faulty::new(fake("redis", &hand)), fake("postgres", &hand));
    let stack = without_near().clock(&hand).level(Level::Ttl).tier(redis.clone()).tier(postgres);
    let cache = stack.build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert!(redis.get_ref().evict("tests", b"k"));
    redis.arm(Fault::lose_answer().on(Call::Put));
    for _ in 0..2 {
        assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("postgres"));
        cache.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_loaded_value_does_not_replace_a_put_that_came_after_it() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let cache = without_near().clock(&hand).level(Level::Ttl).tier(redis.clone());
    let cache = cache.build().unwrap();
    redis.set_latency(ms(20));
    assert_eq!(cache.get_or_load("k", || Loader::default().give(1, ms(1))).await.unwrap(), 1);
    tokio::time::sleep(ms(1)).await;
    redis.set_latency(ms(0));
    cache.put("k", 2).await.unwrap();
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_value_found_far_is_copied_nearer() {
    let (cache, redis) = with_a_copy_under_way().await;
    cache.settled().await;
    assert!(redis.evict("tests", b"k"), "the copy must have arrived");
}

#[tokio::test(start_paused = true)]
async fn a_conditional_put_stays_unsupported_after_the_cache_was_closed() {
    let hand = Clock::manual();
    let stack = without_near().clock(&hand).level(Level::Ttl).tier(fake("redis", &hand));
    let cache = stack.build().unwrap();
    cache.close().await;
    assert_eq!(cache.put_if_absent("k", 1).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(cache.put("k", 1).await.unwrap_err().kind(), ErrorKind::Closed);
}
