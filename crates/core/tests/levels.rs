//! Levels: the stacks that `build` refuses, and a level for a single read.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::time::Duration;

use support::{FixedExpiry, Loader, Near, ReplayableStore, Stack, builder, fake, ms, pass, without_near};
use terrace_conformance::Fake;
use terrace_core::{Builder, ErrorKind, Level, Source};
use terrace_tier::{Clock, ManualClock};

const BOUND: Duration = Duration::from_millis(500);

fn refused(builder: Builder<String, u64, Near>) -> String {
    let error = builder.build().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

#[tokio::test]
async fn what_nothing_proves_is_refused_at_build() {
    let hand = Clock::manual();
    let redis = || fake("redis", &hand).with_log();
    let store = || ReplayableStore(fake("db", &hand));
    let bounded = || builder().level(Level::Bounded(BOUND));
    assert!(refused(bounded()).contains("needs a store"));
    assert!(refused(bounded().expire(FixedExpiry::fresh(BOUND + ms(1)))).contains("needs a store"));
    assert!(refused(bounded().tier(redis())).contains("needs a store"));
    assert!(
        refused(bounded().tier(fake("plain", &hand)).store(store())).contains("keeps the relay's watermark")
    );
    assert!(refused(bounded().tier(redis()).store(fake("db", &hand))).contains("can be relayed"));
    assert!(refused(bounded().tier(redis()).tier(redis()).store(store())).contains("one cache tier"));
    let short = builder().level(Level::Bounded(ms(99))).store(store());
    assert!(refused(short).contains("at least 100 ms"));
    assert!(refused(builder().level(Level::Strong)).contains("asks the store"));
    assert!(refused(builder().level(Level::Strong).tier(redis())).contains("asks the store"));
    for sound in [
        bounded().expire(FixedExpiry::fresh(BOUND)),
        bounded().expire(FixedExpiry::fresh(BOUND)).tier(redis()).tier(redis()),
        bounded().store(fake("db", &hand)),
        bounded().tier(redis()).store(store()),
        bounded().watch_origin(&store()),
        bounded().tier(redis()).watch_origin(&store()),
        builder().level(Level::Strong).tier(fake("plain", &hand)).store(fake("db", &hand)),
    ] {
        sound.build().unwrap();
    }
}

#[tokio::test]
async fn bounded_caches_of_one_handle_may_have_other_bounds() {
    let hand = Clock::manual();
    let (redis, db) = (fake("redis", &hand).with_log(), ReplayableStore(fake("db", &hand)));
    let cache = |level| builder().level(level).tier(redis.clone()).store(db.clone()).build();
    let _one = cache(Level::Bounded(BOUND)).unwrap();
    let _other = cache(Level::Bounded(BOUND * 2)).unwrap();
    assert_eq!(cache(Level::Fenced).map(|_| ()).unwrap_err().kind(), ErrorKind::NamespaceInUse);
}

#[tokio::test(start_paused = true)]
async fn a_level_that_asks_a_truth_is_an_error_without_one() {
    let hand = Clock::manual();
    let fenced = builder().clock(&hand).tier(fake("redis", &hand)).build().unwrap();
    let ttl = builder().clock(&hand).level(Level::Ttl).build().unwrap();
    for (cache, levels) in [
        (&fenced, vec![Level::Bounded(BOUND), Level::Strong]),
        (&ttl, vec![Level::Fenced, Level::Bounded(BOUND), Level::Strong]),
    ] {
        cache.put("k", 1).await.unwrap();
        for level in levels {
            let view = cache.with(level);
            let loader = Loader::default();
            let load = || loader.give(2, ms(0));
            let kinds = [
                view.get("k").await.unwrap_err().kind(),
                view.get_or_load("k", load).await.unwrap_err().kind(),
                view.refresh("k", |_| load()).await.unwrap_err().kind(),
                view.get_many(&["k".to_owned()]).await.into_values().unwrap_err().kind(),
                view.contains("k").await.unwrap_err().kind(),
                view.ttl("k").await.unwrap_err().kind(),
            ];
            assert_eq!(kinds, [ErrorKind::Unsupported; 6], "{level:?}");
            assert_eq!(loader.runs(), 0);
            view.put("k", 1).await.unwrap();
            assert_eq!(
                *view.with(Level::Ttl).get("k").await.unwrap().unwrap(),
                1,
                "a view of a view has only the last level"
            );
        }
    }
}

struct Stacks {
    hand: ManualClock,
    redis: Fake,
    here: Stack,
    /// Another process, whose writes no log reports and no relay carries.
    writer: Stack,
}

fn stacks(level: Level) -> Stacks {
    let hand = Clock::manual();
    let (redis, db) = (fake("redis", &hand).with_log(), fake("db", &hand));
    let here = builder()
        .clock(&hand)
        .level(level)
        .tier(redis.clone())
        .store(ReplayableStore(db.clone()))
        .build()
        .unwrap();
    let writer =
        without_near().clock(&hand).level(level).store(ReplayableStore(db.another_handle())).build().unwrap();
    redis.log().beat();
    Stacks { hand, redis, here, writer }
}

impl Stacks {
    /// Lets time pass with heartbeats of the log, and with a relay that finds no change.
    async fn pass(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(ms(20));
            pass(&self.hand, step).await;
            self.redis.log().beat();
            self.redis.advance_watermark("tests");
            left -= step;
        }
        self.redis.log().beat();
    }
}

async fn read(cache: &Stack) -> (u64, Source) {
    let value = cache.get("k").await.unwrap().unwrap();
    (*value, value.served().from)
}

const NEAR: Source = Source::Near;
const TIER: Source = Source::Tier("redis");
const STORE: Source = Source::Store("db");

#[tokio::test(start_paused = true)]
async fn one_read_of_a_fenced_cache_may_ask_for_more_or_less() {
    let stacks = stacks(Level::Fenced);
    stacks.pass(ms(100)).await;
    stacks.here.put("k", 1).await.unwrap();
    assert_eq!(read(&stacks.here).await, (1, NEAR));
    stacks.writer.put("k", 2).await.unwrap();
    for (level, expected) in [
        (Level::Fenced, (1, NEAR)),
        (Level::Ttl, (1, NEAR)),
        (Level::Bounded(BOUND), (2, STORE)),
        (Level::Strong, (2, STORE)),
    ] {
        assert_eq!(read(&stacks.here.with(level)).await, expected, "{level:?}");
    }
    // Two seconds pass without a heartbeat of the log.
    pass(&stacks.hand, ms(2_000)).await;
    assert_eq!(
        read(&stacks.here.with(Level::Ttl)).await,
        (1, NEAR),
        "level `Ttl` reads a copy of any age within its lifetime"
    );
    assert_eq!(read(&stacks.here).await.1, STORE);
}

#[tokio::test(start_paused = true)]
async fn one_read_of_a_bounded_cache_may_ask_for_another_bound() {
    let stacks = stacks(Level::Bounded(BOUND));
    stacks.writer.put("k", 1).await.unwrap();
    stacks.pass(ms(100)).await;
    assert_eq!(read(&stacks.here).await, (1, STORE));
    stacks.here.settled().await;
    stacks.writer.put("k", 2).await.unwrap();
    stacks.pass(ms(100)).await;
    let at = |millis| stacks.here.with(Level::Bounded(ms(millis)));
    assert_eq!(
        read(&at(100)).await,
        (1, NEAR),
        "the watermarks are wrong here: they prove a copy that has changed"
    );
    // From here on the watermark does not advance.
    pass(&stacks.hand, ms(300)).await;
    stacks.redis.log().beat();
    assert_eq!(read(&stacks.here).await, (1, NEAR));
    assert_eq!(read(&at(1_000)).await, (1, NEAR));
    assert_eq!(read(&stacks.here.with(Level::Fenced)).await, (1, NEAR));
    assert_eq!(read(&at(200)).await, (2, STORE), "the read must get the new value, which near then keeps");
    assert_eq!(read(&stacks.here).await, (2, NEAR));
}

#[tokio::test(start_paused = true)]
async fn a_wider_bound_reads_what_the_own_one_reads_past() {
    let stacks = stacks(Level::Bounded(BOUND));
    stacks.writer.put("k", 1).await.unwrap();
    stacks.pass(ms(100)).await;
    read(&stacks.here).await;
    stacks.here.settled().await;
    pass(&stacks.hand, BOUND).await;
    stacks.redis.log().beat();
    assert_eq!(read(&stacks.here.with(Level::Bounded(BOUND * 3))).await, (1, NEAR));
    assert_eq!(read(&stacks.here.with(Level::Ttl)).await, (1, NEAR));
    assert_eq!(read(&stacks.here.with(Level::Strong)).await, (1, STORE));
    assert_eq!(read(&stacks.here).await, (1, STORE));
}

#[tokio::test(start_paused = true)]
async fn a_strong_cache_reads_copies_where_one_read_asks_for_less() {
    let stacks = stacks(Level::Strong);
    stacks.writer.put("k", 1).await.unwrap();
    stacks.pass(ms(100)).await;
    let fenced = stacks.here.with(Level::Fenced);
    assert_eq!(read(&fenced).await, (1, STORE));
    stacks.here.settled().await;
    assert_eq!(read(&fenced).await, (1, NEAR));
    assert_eq!(read(&stacks.here).await, (1, STORE));
    assert_eq!(
        read(&stacks.here.with(Level::Bounded(BOUND))).await,
        (1, STORE),
        "a strong cache reads no watermarks"
    );
    let there = without_near().clock(&stacks.hand).level(Level::Strong).tier(stacks.redis.another_handle());
    let there = there.store(ReplayableStore(fake("db", &stacks.hand))).build().unwrap();
    assert_eq!(read(&there.with(Level::Fenced)).await, (1, TIER));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_asks_for_less_leaves_nothing_that_others_take_for_proven() {
    let stacks = stacks(Level::Bounded(BOUND));
    stacks.writer.put("k", 1).await.unwrap();
    stacks.pass(ms(100)).await;
    read(&stacks.here).await;
    stacks.here.settled().await;
    stacks.writer.put("k", 2).await.unwrap();
    pass(&stacks.hand, BOUND * 4).await;
    stacks.redis.log().beat();
    stacks.here.with(Level::Strong).get("other").await.unwrap();
    // This read copies the value from the tier into near although it is past any bound.
    let fenced = stacks.here.with(Level::Fenced);
    assert_eq!(read(&fenced).await, (1, TIER));
    assert_eq!(read(&stacks.here).await, (2, STORE));
}
