//! `touch` renews the life of a value that is in use, with few round trips.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::time::Duration;

use support::{Stack, builder, fake, local, ms, without_near};
use terrace_conformance::{Call, Fault, Faulty};
use terrace_core::{ErrorKind, Item};
use terrace_tier::{Clock, ManualClock};

const LIFE: Duration = Duration::from_secs(10);

/// Uses a value every 100 ms, for three of its lives.
async fn use_it(cache: &Stack, hand: &ManualClock) {
    for _ in 0..300 {
        assert!(cache.get("k").await.unwrap().is_some());
        cache.touch("k", LIFE).await.unwrap();
        hand.advance(ms(100));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_in_use_lives_on_at_one_trip_in_a_tenth_of_its_life() {
    let hand = Clock::manual();
    for with_near in [true, false] {
        let (redis, store) = (fake("redis", &hand), fake("postgres", &hand));
        let stack = if with_near { builder() } else { without_near() };
        let cache = stack.clock(&hand).tier(redis).store(store.clone()).build().unwrap();
        cache.put_item("k", Item::new(1).ttl(LIFE)).await.unwrap();
        use_it(&cache, &hand).await;
        assert_eq!(store.calls().of(Call::Expire), 30);
        assert!(store.calls().of(Call::Get) <= 30, "each renewal drops the copies once");
        hand.advance(LIFE);
        assert!(cache.get("k").await.unwrap().is_none(), "a record that nobody uses ends");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_use_lives_on_without_a_store_and_without_any_tier() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    for cache in
        [builder().clock(&hand).tier(redis.clone()).build().unwrap(), builder().clock(&hand).build().unwrap()]
    {
        cache.put_item("k", Item::new(1).ttl(LIFE)).await.unwrap();
        use_it(&cache, &hand).await;
        hand.advance(LIFE);
        assert!(cache.get("k").await.unwrap().is_none());
    }
    assert_eq!(redis.calls().of(Call::Expire), 30);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_tried_again_by_the_next_call() {
    let hand = Clock::manual();
    let store = Faulty::new(fake("postgres", &hand));
    let cache = builder().clock(&hand).store(store.clone()).build().unwrap();
    cache.put_item("k", Item::new(1).ttl(LIFE)).await.unwrap();
    store.arm(Fault::fail(ErrorKind::Unavailable).on(Call::Expire));
    assert_eq!(cache.touch("k", LIFE).await.unwrap_err().kind(), ErrorKind::Unavailable);
    cache.touch("k", LIFE).await.unwrap();
    cache.touch("k", LIFE).await.unwrap();
    assert_eq!(store.get_ref().calls().of(Call::Expire), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_call_was_cancelled_is_tried_again_by_the_next_call() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = builder().clock(&hand).store(store.clone()).build().unwrap();
    cache.put_item("k", Item::new(1).ttl(LIFE)).await.unwrap();
    store.set_latency(ms(50));
    assert!(tokio::time::timeout(ms(10), cache.touch("k", LIFE)).await.is_err());
    cache.touch("k", LIFE).await.unwrap();
    assert_eq!(store.calls().of(Call::Expire), 2);
}

#[tokio::test(start_paused = true)]
async fn a_touch_after_a_shorter_life_renews_it_at_once() {
    let hand = Clock::manual();
    let cache = builder().clock(&hand).tier(fake("redis", &hand)).build().unwrap();
    cache.put_item("k", Item::new(1).ttl(LIFE)).await.unwrap();
    cache.touch("k", LIFE).await.unwrap();
    cache.expire("k", ms(100)).await.unwrap();
    cache.touch("k", LIFE).await.unwrap();
    hand.advance(LIFE / 2);
    assert!(cache.get("k").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_value_gets_none_by_a_touch() {
    let cache = local();
    cache.touch("k", LIFE).await.unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
    cache.put("k", 1).await.unwrap();
    cache.close().await;
    assert_eq!(cache.touch("k", LIFE).await.unwrap_err().kind(), ErrorKind::Closed);
}
