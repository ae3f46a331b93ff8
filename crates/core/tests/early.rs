//! Hits that renew an entry which is still fresh: early renewal, and idle lives.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::time::Duration;

use support::{
    EarlyLead, FixedExpiry, FixedStampede, Idle, Loader, Stack, builder, fake, ms, pass, without_near,
};
use terrace_conformance::Call;
use terrace_core::{ErrorKind, Item, Level, Source, policy::Coalesce};
use terrace_tier::{Clock, ManualClock};

const LIFE: Duration = Duration::from_secs(10);
const LEAD: EarlyLead = EarlyLead(Duration::from_secs(2));

fn life() -> FixedExpiry {
    FixedExpiry::fresh(LIFE)
}

/// A cache with near alone, with near before a tier, and with a tier alone.
fn stacks(hand: &ManualClock) -> [Stack; 3] {
    let redis = || fake("redis", hand);
    let all = [builder(), builder().tier(redis()), without_near().tier(redis())];
    all.map(|stack| stack.clock(hand).expire(life()).freshness(LEAD).build().unwrap())
}

async fn read(cache: &Stack, loader: &Loader, value: u64) -> u64 {
    let answer = cache.get_or_load("k", || loader.give(value, ms(50))).await.unwrap();
    assert!(!answer.served().stale);
    *answer
}

#[tokio::test(start_paused = true)]
async fn a_hit_before_the_end_of_the_life_is_an_ordinary_hit_and_renews_the_entry() {
    let hand = Clock::manual();
    for cache in stacks(&hand) {
        let loader = Loader::default();
        assert_eq!(read(&cache, &loader, 1).await, 1);
        cache.settled().await;
        pass(&hand, ms(7_900)).await;
        assert_eq!((read(&cache, &loader, 2).await, loader.runs()), (1, 1), "it is too early");
        pass(&hand, ms(150)).await;
        let began = tokio::time::Instant::now();
        for _ in 0..5 {
            assert_eq!(read(&cache, &loader, 2).await, 1);
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
        cache.settled().await;
        assert_eq!((read(&cache, &loader, 3).await, loader.runs()), (2, 2), "one load renews it");
        pass(&hand, ms(7_000)).await;
        assert_eq!(read(&cache, &loader, 3).await, 2, "the renewal began another life");
        let stats = cache.stats();
        assert_eq!((stats.stale_served, stats.load_errors), (0, 0));
        let nearest = &stats.tiers[0];
        // Reads that join the flight of the renewal are answered by its lookup, and ask no tier.
        if nearest.name == "near" {
            assert_eq!((nearest.hits, nearest.misses), (8, 1), "the hit that renews is a hit");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_renews_its_keys_in_one_load_and_waits_for_none() {
    let hand = Clock::manual();
    for cache in stacks(&hand) {
        let keys = ["a".to_owned(), "b".to_owned()];
        for key in &keys {
            cache.put(key, 1).await.unwrap();
        }
        cache.get_many(&keys).await.into_values().unwrap();
        pass(&hand, ms(8_100)).await;
        let load = |missing: terrace_core::MissingKeys<String>| async move {
            Ok::<_, std::convert::Infallible>(missing.zip([2, 2]))
        };
        for expected in [1, 2] {
            let answers = cache.get_or_load_many(&keys, load).await.into_values().unwrap();
            assert!(answers.into_iter().flatten().all(|answer| *answer == expected));
            cache.settled().await;
        }
        assert_eq!(cache.stats().loads, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_process_renews_for_all() {
    let hand = Clock::manual();
    let (redis, loader) = (fake("redis", &hand), Loader::default());
    let process = || {
        let stack = builder().clock(&hand).tier(redis.another_handle()).expire(life()).freshness(LEAD);
        stack.stampede(FixedStampede(Coalesce::Lease)).build().unwrap()
    };
    let processes = [process(), process(), process()];
    for cache in &processes {
        assert_eq!(read(cache, &loader, 1).await, 1);
        cache.settled().await;
    }
    pass(&hand, ms(8_100)).await;
    for cache in &processes {
        assert_eq!(read(cache, &loader, 2).await, 1);
    }
    for cache in &processes {
        cache.settled().await;
        assert_eq!(read(cache, &loader, 3).await, 2);
    }
    assert_eq!(loader.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_leaves_the_entry_and_is_tried_again_after_a_pause() {
    let hand = Clock::manual();
    for cache in stacks(&hand) {
        let loader = Loader::default();
        read(&cache, &loader, 1).await;
        cache.settled().await;
        pass(&hand, ms(8_100)).await;
        for _ in 0..10 {
            let answer = cache.get_or_load("k", || loader.fail(ms(1))).await.unwrap();
            assert_eq!((*answer, answer.served().stale), (1, false));
            cache.settled().await;
        }
        assert_eq!(loader.runs(), 2, "the first load, and one try");
        pass(&hand, ms(1_600)).await;
        assert_eq!(read(&cache, &loader, 2).await, 1);
        cache.settled().await;
        assert_eq!(read(&cache, &loader, 3).await, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_longer_than_the_life_renews_at_half_of_it() {
    let hand = Clock::manual();
    let cache = builder().clock(&hand).expire(life()).freshness(EarlyLead(LIFE * 3)).build().unwrap();
    let loader = Loader::default();
    for _ in 0..100 {
        read(&cache, &loader, 1).await;
        cache.settled().await;
        pass(&hand, ms(1_000)).await;
    }
    assert!((15..=21).contains(&loader.runs()), "{} loads in ten lives", loader.runs());
}

#[tokio::test(start_paused = true)]
async fn the_copy_of_an_old_record_is_renewed_by_the_life_of_the_copy() {
    let hand = Clock::manual();
    let (redis, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = builder().clock(&hand).tier(redis).store(store.clone()).expire(life()).freshness(LEAD);
    let cache = cache.build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.invalidate("k").await.unwrap();
    pass(&hand, LIFE * 100).await;
    for _ in 0..200 {
        assert!(cache.get("k").await.unwrap().is_some());
        cache.settled().await;
        pass(&hand, ms(500)).await;
    }
    let reads = store.calls().of(Call::Get) + store.calls().of(Call::Lease);
    assert!((11..=15).contains(&reads), "{reads} reads of the store in ten lives");
}

#[tokio::test(start_paused = true)]
async fn a_life_of_one_tier_renews_nothing_while_the_next_tier_has_the_entry() {
    let hand = Clock::manual();
    let (near, far) = (fake("redis", &hand), fake("postgres", &hand));
    let near = terrace_core::TierSettings::ttl(near, ms(1_000));
    let cache = builder().near_ttl(ms(500)).clock(&hand).tier(near).tier(far).expire(life());
    let (cache, loader) = (cache.freshness(LEAD).build().unwrap(), Loader::default());
    for _ in 0..70 {
        assert_eq!(read(&cache, &loader, 1).await, 1);
        cache.settled().await;
        pass(&hand, ms(100)).await;
    }
    assert_eq!(loader.runs(), 1);
}

/// Reads a value every 100 ms, for ten idle lives.
async fn use_it(cache: &Stack, hand: &ManualClock) {
    for _ in 0..1_000 {
        assert!(cache.get("k").await.unwrap().is_some());
        pass(hand, ms(100)).await;
    }
    cache.settled().await;
}

#[tokio::test(start_paused = true)]
async fn reads_extend_an_idle_life_at_one_trip_in_a_tenth_of_it_and_near_copies_stay() {
    let hand = Clock::manual();
    for with_near in [true, false] {
        let redis = fake("redis", &hand);
        let stack = if with_near { builder() } else { without_near() };
        let cache = stack.clock(&hand).tier(redis.clone()).expire(Idle(LIFE)).build().unwrap();
        cache.put("k", 1).await.unwrap();
        let before = redis.calls();
        use_it(&cache, &hand).await;
        let touches = redis.calls().of(Call::Expire) - before.of(Call::Expire);
        assert!((90..=110).contains(&touches), "{touches} touches in ten lives");
        if with_near {
            assert_eq!(redis.calls().of(Call::Get), before.of(Call::Get), "near answers every read");
            assert_eq!(redis.calls().of(Call::Lease), before.of(Call::Lease));
        }
        pass(&hand, LIFE - LIFE / 10 - ms(200)).await;
        assert!(cache.ttl("k").await.unwrap().is_some(), "it lives for nine tenths at least");
        pass(&hand, LIFE / 10 + ms(200)).await;
        assert!(cache.get("k").await.unwrap().is_none(), "it ends when nobody reads it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_life_needs_no_tier() {
    let hand = Clock::manual();
    let cache = builder().clock(&hand).expire(Idle(LIFE)).build().unwrap();
    cache.put("k", 1).await.unwrap();
    use_it(&cache, &hand).await;
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Near);
    pass(&hand, LIFE).await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_touch_that_fails_is_tried_again_by_the_next_read() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(redis.clone()).expire(Idle(LIFE)).build().unwrap();
    cache.put("k", 1).await.unwrap();
    redis.set_down(true);
    pass(&hand, ms(1_500)).await;
    assert!(cache.get("k").await.unwrap().is_some());
    cache.settled().await;
    redis.set_down(false);
    pass(&hand, ms(200)).await;
    assert!(cache.get("k").await.unwrap().is_some());
    cache.settled().await;
    assert_eq!(redis.calls().of(Call::Expire), 1, "one arrived");
    pass(&hand, ms(9_000)).await;
    assert!(cache.get("k").await.unwrap().is_some(), "the second touch counts");
}

#[tokio::test(start_paused = true)]
async fn a_removed_value_is_not_brought_back_by_a_read_that_extends_its_life() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(redis.another_handle()).expire(Idle(LIFE)).build().unwrap();
    let other = without_near().clock(&hand).tier(redis.another_handle()).expire(Idle(LIFE)).build().unwrap();
    cache.put("k", 1).await.unwrap();
    other.remove("k").await.unwrap();
    pass(&hand, ms(1_500)).await;
    // The tier has no log, so near may answer until its copy ends, and not longer.
    cache.get("k").await.unwrap();
    cache.settled().await;
    assert!(other.get("k").await.unwrap().is_none());
    pass(&hand, ms(8_600)).await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[test]
fn an_idle_life_that_nothing_could_keep_is_refused() {
    let hand = Clock::manual();
    let refused =
        |built: terrace_core::Result<Stack>| assert_eq!(built.unwrap_err().kind(), ErrorKind::Config);
    refused(builder().store(fake("postgres", &hand)).expire(Idle(LIFE)).build());
    refused(builder().expire(Idle(ms(10))).build());
    refused(builder().expire(Idle(LIFE)).level(Level::Bounded(LIFE * 2)).build());
}

#[tokio::test(start_paused = true)]
async fn an_item_with_a_life_of_its_own_is_renewed_by_that_life() {
    let hand = Clock::manual();
    for cache in stacks(&hand) {
        cache.put_item("k", Item::new(1).ttl(ms(5_000))).await.unwrap();
        let loader = Loader::default();
        pass(&hand, ms(2_900)).await;
        assert_eq!((read(&cache, &loader, 2).await, loader.runs()), (1, 0));
        pass(&hand, ms(200)).await;
        read(&cache, &loader, 2).await;
        cache.settled().await;
        assert_eq!((read(&cache, &loader, 3).await, loader.runs()), (2, 1));
    }
}
