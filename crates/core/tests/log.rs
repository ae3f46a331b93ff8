//! Near tiers and the invalidation log: near drops what the log reports, and trusts no silent log.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::time::Duration;

use support::{FixedExpiry, Loader, ServeOnError, Stack, builder, fake, ms};
use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::{Level, Source};
use terrace_tier::{Clock, ManualClock};

/// Two processes over one shared tier with a log.
struct Pair {
    hand: ManualClock,
    redis: Fake,
    here: Stack,
    there: Stack,
}

fn pair() -> Pair {
    let hand = Clock::manual();
    let redis = fake("redis", &hand).with_log();
    let here = builder().clock(&hand).tier(redis.clone()).build().unwrap();
    let there = builder().clock(&hand).tier(redis.another_handle()).build().unwrap();
    hand.advance(ms(1));
    redis.log().beat();
    Pair { hand, redis, here, there }
}

async fn read(cache: &Stack, key: &str) -> Option<(u64, Source)> {
    cache.get(key).await.unwrap().map(|value| (*value, value.served().from))
}

fn tier() -> Source {
    Source::Tier("redis")
}

impl Pair {
    /// Makes both processes keep the value near.
    async fn both_read(&self, key: &str, value: u64) {
        self.there.put(key, value).await.unwrap();
        for cache in [&self.here, &self.there] {
            read(cache, key).await;
            assert_eq!(read(cache, key).await, Some((value, Source::Near)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_elsewhere_is_read_at_once() {
    let pair = pair();
    pair.both_read("k", 1).await;
    pair.there.put("k", 2).await.unwrap();
    assert_eq!(read(&pair.here, "k").await, Some((2, tier())));
    assert_eq!(read(&pair.here, "k").await, Some((2, Source::Near)));
    assert_eq!(read(&pair.there, "k").await, Some((2, Source::Near)), "the writer's own copy must stay");
}

#[tokio::test(start_paused = true)]
async fn an_invalidate_a_remove_and_a_clear_elsewhere_are_noticed() {
    let pair = pair();
    for (round, change) in ["invalidate", "remove", "clear", "expire"].into_iter().enumerate() {
        let value = round as u64;
        pair.both_read("k", value).await;
        match change {
            "invalidate" => assert!(pair.there.invalidate("k").await.unwrap()),
            "remove" => assert!(pair.there.remove("k").await.unwrap()),
            "clear" => pair.there.clear().await.unwrap(),
            _ => assert!(pair.there.expire("k", Duration::ZERO).await.unwrap()),
        }
        assert_eq!(read(&pair.here, "k").await, None, "after {change}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_key_leaves_the_others_near() {
    let pair = pair();
    pair.both_read("a", 1).await;
    pair.both_read("b", 1).await;
    pair.there.put("a", 2).await.unwrap();
    assert_eq!(read(&pair.here, "b").await, Some((1, Source::Near)));
}

#[tokio::test(start_paused = true)]
async fn tenants_are_notified_of_their_own_changes() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand).with_log();
    let tenants = |redis: Fake| builder().clock(&hand).tier(redis).build_per_tenant().unwrap();
    let (here, there) = (tenants(redis.clone()), tenants(redis.another_handle()));
    hand.advance(ms(1));
    redis.log().beat();
    for name in ["ann", "bob"] {
        there.tenant(name).unwrap().put("k", 1).await.unwrap();
        read(&here.tenant(name).unwrap(), "k").await;
    }
    there.tenant("ann").unwrap().put("k", 2).await.unwrap();
    assert_eq!(read(&here.tenant("ann").unwrap(), "k").await, Some((2, tier())));
    assert_eq!(read(&here.tenant("bob").unwrap(), "k").await, Some((1, Source::Near)));
    there.tenant("bob").unwrap().clear().await.unwrap();
    assert_eq!(read(&here.tenant("bob").unwrap(), "k").await, None);
    assert_eq!(read(&here.tenant("ann").unwrap(), "k").await, Some((2, Source::Near)));
}

#[tokio::test(start_paused = true)]
async fn an_invalidate_of_ones_own_does_not_drop_what_was_loaded_after_it() {
    let pair = pair();
    pair.redis.log().hold(true);
    pair.here.invalidate("k").await.unwrap();
    let loader = Loader::default();
    pair.here.get_or_load("k", || loader.give(7, ms(5))).await.unwrap();
    pair.here.settled().await;
    pair.redis.log().hold(false);
    assert_eq!(read(&pair.here, "k").await, Some((7, Source::Near)));
}

#[tokio::test(start_paused = true)]
async fn what_was_loaded_while_the_authority_was_away_is_as_old_as_its_question() {
    let pair = pair();
    pair.redis.log().lose();
    pair.redis.set_down(true);
    let (here, loader) = (pair.here.clone(), Loader::default());
    let load = tokio::spawn(async move { *here.get_or_load("k", || loader.give(1, ms(500))).await.unwrap() });
    tokio::time::sleep(ms(10)).await;
    // A change in the meantime would be lost in this gap.
    pair.redis.log().lose();
    pair.hand.advance(ms(500));
    pair.redis.log().beat();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(
        read(&pair.here, "k").await,
        Some((1, Source::Near)),
        "the copy is proven for a second after the load began"
    );
    pair.redis.set_down(false);
    pair.hand.advance(ms(500));
    assert_eq!(read(&pair.here, "k").await, None);
}

/// Anomaly 3: the reply was under way when the log reported the change.
#[tokio::test(start_paused = true)]
async fn a_reply_that_a_change_elsewhere_overtook_stays_out_of_near() {
    let pair = pair();
    pair.there.put("k", 1).await.unwrap();
    let loader = Loader::default();
    let here = pair.here.clone();
    let load = tokio::spawn(async move {
        let value = here.get_or_load("absent", || loader.give(1, ms(50))).await.unwrap();
        *value
    });
    tokio::time::sleep(ms(10)).await;
    pair.there.invalidate("absent").await.unwrap();
    assert_eq!(load.await.unwrap(), 1);
    pair.here.settled().await;
    assert_eq!(read(&pair.here, "absent").await, None, "the value must be kept nowhere");
}

#[tokio::test(start_paused = true)]
async fn a_silent_log_ends_the_trust_in_near() {
    let pair = pair();
    pair.both_read("k", 1).await;
    pair.redis.log().hold(true);
    pair.there.put("k", 2).await.unwrap();
    pair.hand.advance(ms(900));
    assert_eq!(read(&pair.here, "k").await, Some((1, Source::Near)), "a copy is proven within the bound");
    pair.hand.advance(ms(100));
    assert_eq!(read(&pair.here, "k").await, Some((2, tier())), "the copy is not proven any more");
    assert_eq!(
        read(&pair.here, "k").await,
        Some((2, Source::Near)),
        "the copy is proven for a second by the time of its own read"
    );
    pair.hand.advance(ms(1_000));
    assert_eq!(read(&pair.here, "k").await, Some((2, tier())));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_log_that_goes_on_keeps_near_warm() {
    let pair = pair();
    pair.both_read("k", 1).await;
    pair.redis.log().hold(true);
    pair.hand.advance(Duration::from_secs(5));
    pair.redis.log().hold(false);
    pair.redis.log().beat();
    assert_eq!(read(&pair.here, "k").await, Some((1, Source::Near)), "near has missed no change");
}

#[tokio::test(start_paused = true)]
async fn a_copy_kept_while_the_log_was_silent_is_not_covered_by_it_later() {
    let pair = pair();
    pair.there.put("k", 1).await.unwrap();
    pair.redis.log().hold(true);
    pair.hand.advance(Duration::from_secs(5));
    assert_eq!(read(&pair.here, "k").await, Some((1, tier())));
    pair.redis.log().hold(false);
    pair.redis.log().lose();
    pair.hand.advance(ms(1_000));
    pair.redis.log().beat();
    assert_eq!(read(&pair.here, "k").await, Some((1, tier())), "the second after its own read is over");
    pair.hand.advance(ms(900));
    pair.redis.log().beat();
    pair.hand.advance(ms(900));
    assert_eq!(read(&pair.here, "k").await, Some((1, Source::Near)), "the new copy is covered by the log");
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_log_drops_what_rested_on_it() {
    let pair = pair();
    pair.both_read("k", 1).await;
    pair.redis.log().hold(true);
    pair.there.put("k", 2).await.unwrap();
    pair.redis.log().lose();
    pair.redis.log().hold(false);
    pair.hand.advance(ms(1));
    pair.redis.log().beat();
    assert_eq!(read(&pair.here, "k").await, Some((2, tier())), "the put is lost in the gap");
}

/// After a gap versions may start again below those of near copies: the tier has gone back while its clock is
/// behind. The log covers no copy at this level, so that the gap drops none.
#[tokio::test(start_paused = true)]
async fn a_put_after_a_gap_drops_a_copy_of_a_higher_version() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand).with_log();
    let aged = || {
        let level = Level::Bounded(Duration::from_secs(5));
        builder().level(level).expire(FixedExpiry::fresh(Duration::from_secs(5))).clock(&hand)
    };
    let here = aged().tier(redis.clone()).build().unwrap();
    let there = aged().tier(redis.another_handle()).build().unwrap();
    hand.advance(ms(1));
    redis.log().beat();
    there.put("k", 1).await.unwrap();
    read(&here, "k").await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    redis.set_clock_behind(Duration::from_secs(3));
    redis.lose_everything();
    redis.log().lose();
    there.put("k", 2).await.unwrap();
    assert_eq!(read(&here, "k").await, Some((2, tier())));
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_across_a_gap_stays_out_of_near() {
    let pair = pair();
    let (loader, here) = (Loader::default(), pair.here.clone());
    let load =
        tokio::spawn(
            async move { here.get_or_load("k", || loader.give(1, ms(50))).await.map(|value| *value) },
        );
    tokio::time::sleep(ms(10)).await;
    pair.hand.advance(ms(1));
    pair.redis.log().lose();
    pair.redis.log().beat();
    assert_eq!(load.await.unwrap().unwrap(), 1);
    pair.here.settled().await;
    assert_eq!(read(&pair.here, "k").await, None, "the value must be kept nowhere");
}

/// The clock of deadlines goes on while a process is stopped and runs no task.
#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_trusts_nothing_when_it_goes_on() {
    let pair = pair();
    pair.both_read("k", 1).await;
    pair.redis.log().hold(true);
    pair.there.put("k", 2).await.unwrap();
    pair.hand.advance(Duration::from_secs(60));
    assert_eq!(read(&pair.here, "k").await, Some((2, tier())));
}

#[tokio::test(start_paused = true)]
async fn an_unproven_copy_serves_where_nothing_else_answers_and_the_policy_allows_it() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand).with_log();
    let cache = builder().clock(&hand).tier(redis.clone()).freshness(ServeOnError).build().unwrap();
    hand.advance(ms(1));
    redis.log().beat();
    cache.put("k", 1).await.unwrap();
    redis.log().hold(true);
    redis.set_down(true);
    hand.advance(Duration::from_secs(2));
    let failing = || async { Err::<u64, _>(std::io::Error::other("the origin is away")) };
    assert_eq!(*cache.get_or_load("k", failing).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_log_near_copies_live_to_their_own_end() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(redis).build().unwrap();
    cache.put("k", 1).await.unwrap();
    hand.advance(Duration::from_secs(200));
    assert_eq!(read(&cache, "k").await, Some((1, Source::Near)));
}

/// The log may report a put of another process before the process's own newer put has returned.
#[tokio::test(start_paused = true)]
async fn puts_that_cross_leave_both_with_the_newest() {
    let pair = pair();
    pair.redis.set_latency(ms(5));
    for round in 0..50_u64 {
        let (mine, theirs) = tokio::join!(pair.here.put("k", 2 * round), pair.there.put("k", 2 * round + 1));
        let newest = if mine.unwrap() > theirs.unwrap() { 2 * round } else { 2 * round + 1 };
        for cache in [&pair.here, &pair.there] {
            assert_eq!(read(cache, "k").await.unwrap().0, newest, "round {round}");
        }
    }
}

/// The process reads the newer value while its own put is under way. The log then reports the newer put,
/// but near already has that value and drops nothing. The older put must still not replace it.
#[tokio::test(start_paused = true)]
async fn a_put_that_was_overtaken_and_notified_does_not_replace_the_newer_copy() {
    let hand = Clock::manual();
    let (store, redis) = (fake("store", &hand), fake("redis", &hand).with_log());
    let near_redis = Faulty::new(redis.clone());
    let here = builder().clock(&hand).tier(near_redis.clone()).store(store.clone()).build().unwrap();
    let there = builder().clock(&hand).tier(redis.another_handle()).store(store.another_handle());
    let there = there.build().unwrap();
    hand.advance(ms(1));
    redis.log().beat();
    // The put has its version and is on its way to Redis.
    near_redis.arm(Fault::delay(ms(20)).on(Call::Put));
    let late = tokio::spawn({
        let here = here.clone();
        async move { here.put("k", 1).await }
    });
    tokio::time::sleep(ms(1)).await;
    redis.log().hold(true);
    assert_eq!(read(&there, "k").await, Some((1, Source::Store("store"))));
    there.settled().await;
    there.put("k", 2).await.unwrap();
    assert_eq!(read(&here, "k").await, Some((2, tier())));
    redis.log().hold(false);
    assert_eq!(read(&here, "k").await, Some((2, Source::Near)));
    late.await.unwrap().unwrap();
    assert_eq!(read(&here, "k").await.unwrap().0, 2);
}
