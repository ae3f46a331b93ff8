//! Level `Bounded`: what cannot be proven within the bound is read from further down.

#![allow(clippy::unwrap_used, reason = "tests; the lint looks for the attribute on each function")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use support::{Loader, Near, Stack, Truth, builder, fake, ms, pass, without_near};
use terrace_conformance::{Fake, Saved};
use terrace_core::{
    Backend, Builder, Clock, Condition, Dropped, Freshness, Level, ManualClock, Mark, OnStale, Publication,
    Reply, Role, Source, Space, StaleHit, Tier, TierKey, Version,
    switch::{Defence, without},
};

const BOUND: Duration = Duration::from_millis(500);
const LEVEL: Level = Level::Bounded(BOUND);

/// A shared tier in front of a store, and whoever relays between them.
struct Servers {
    hand: ManualClock,
    redis: Fake,
    db: Fake,
    relay: Relay,
    /// Commits, and is gone before it tells anyone.
    writer: Stack,
}

/// A relay that is told by hand what has changed.
struct Relay {
    tier: Arc<dyn Tier>,
    mark: Option<Version>,
}

impl Relay {
    fn new(redis: &Fake) -> Self {
        let space = Space {
            namespace: "tests".into(),
            tenant: None,
            role: Role::Cache,
            level: LEVEL,
            schema: 0,
            shape: 0,
            budget: ms(50),
        };
        Self { tier: redis.another_handle().open(&space).unwrap(), mark: None }
    }

    /// Drops `keys` and moves the mark, if that is where it was left.
    async fn publish(&mut self, keys: &[&str]) -> bool {
        let drops = keys.iter().map(|key| {
            let bytes = Bytes::copy_from_slice(key.as_bytes());
            Dropped { tenant: None, key: TierKey { bytes, digest: [0; 16] }, version: None }
        });
        let certified = self.mark.unwrap_or(Version::NONE);
        let publication = Publication {
            mark: Mark::key("tests"),
            expected: self.mark.map_or(Condition::Absent, Condition::Version),
            body: Mark { holder: 1, certified, place: Bytes::new() }.encode(),
            drops: drops.collect(),
            clears: if self.mark.is_none() { vec![None] } else { Vec::new() },
            mark_ttl: ms(60_000),
        };
        match self.tier.publish().unwrap().publish(publication).await.unwrap() {
            Reply::Kept(version) => self.mark = Some(version),
            Reply::Refused(None) => return false,
            other => panic!("{other:?}"),
        }
        true
    }
}

fn servers() -> Servers {
    let hand = Clock::manual();
    let (redis, db) = (fake("redis", &hand).with_log(), fake("db", &hand));
    let writer = without_near().clock(&hand).level(LEVEL).store(Truth(db.another_handle())).build().unwrap();
    Servers { relay: Relay::new(&redis), hand, redis, db, writer }
}

impl Servers {
    fn process(&self, of: Builder<String, u64, Near>) -> Stack {
        let of = of.clock(&self.hand).level(LEVEL);
        of.tier(self.redis.another_handle()).store(Truth(self.db.another_handle())).build().unwrap()
    }

    /// A while in which the relay works, and finds that `keys` have changed.
    async fn relayed(&mut self, keys: &[&str]) {
        for at in 0..4 {
            pass(&self.hand, ms(10)).await;
            self.redis.log().beat();
            assert!(self.relay.publish(if at == 0 { keys } else { &[] }).await);
        }
        self.redis.log().beat();
    }

    /// A while in which it does not; the log is heard all the same.
    async fn unrelayed(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(ms(50));
            pass(&self.hand, step).await;
            self.redis.log().beat();
            left -= step;
        }
    }
}

async fn read(cache: &Stack, key: &str) -> Option<(u64, Source)> {
    cache.get(key).await.unwrap().map(|value| (*value, value.served().from))
}

const TIER: Source = Source::Tier("redis");
const STORE: Source = Source::Store("db");

#[tokio::test(start_paused = true)]
async fn copies_are_believed_while_a_relay_certifies_them() {
    let mut servers = servers();
    let (here, there) = (servers.process(builder()), servers.process(builder()));
    servers.relayed(&[]).await;
    there.put("k", 1).await.unwrap();
    assert_eq!(read(&here, "k").await, Some((1, STORE)), "a put fills no tier that had nothing");
    here.settled().await;
    servers.relayed(&[]).await;
    let third = servers.process(builder());
    assert_eq!(read(&third, "k").await, Some((1, STORE)), "it has heard of no mark yet");
    servers.relayed(&[]).await;
    let fourth = third.clone();
    fourth.invalidate("other").await.unwrap();
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    servers.unrelayed(ms(100)).await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_the_tier_is_an_answer_within_the_bound_and_is_read_past_beyond_it() {
    let mut servers = servers();
    let here = servers.process(without_near());
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    here.settled().await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
    servers.unrelayed(BOUND).await;
    assert_eq!(read(&here, "k").await, Some((1, STORE)), "the relay's mark is too old");
    assert_eq!(here.stats().tier("redis").unwrap().unproven, 1);
    servers.relayed(&[]).await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
}

#[tokio::test(start_paused = true)]
async fn near_ends_its_trust_when_marks_stop_though_the_log_is_heard() {
    let mut servers = servers();
    let here = servers.process(builder());
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    servers.unrelayed(BOUND).await;
    assert_eq!(read(&here, "k").await, Some((1, STORE)));
    assert_eq!(here.stats().tier("near").unwrap().unproven, 1);
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)), "by its own reading");
    servers.unrelayed(BOUND).await;
    servers.relayed(&[]).await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)), "it rested on its own reading alone");
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_writer_committed_is_read_once_the_bound_has_passed() {
    let mut servers = servers();
    let (near, far) = (servers.process(builder()), servers.process(without_near()));
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    for cache in [&near, &far] {
        read(cache, "k").await;
        cache.settled().await;
    }
    servers.writer.put("k", 2).await.unwrap();
    for cache in [&near, &far] {
        assert_eq!(read(cache, "k").await.unwrap().0, 1, "nobody has told");
    }
    servers.unrelayed(BOUND).await;
    for cache in [&near, &far] {
        assert_eq!(read(cache, "k").await, Some((2, STORE)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_relay_drops_is_read_at_once() {
    let mut servers = servers();
    let (near, far) = (servers.process(builder()), servers.process(without_near()));
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    for cache in [&near, &far] {
        read(cache, "k").await;
        cache.settled().await;
    }
    servers.writer.put("k", 2).await.unwrap();
    servers.relayed(&["k"]).await;
    for cache in [&near, &far] {
        assert_eq!(read(cache, "k").await.unwrap().0, 2);
    }
}

/// Anomaly 6.
#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_believes_nothing_when_it_goes_on() {
    let mut servers = servers();
    let here = servers.process(builder());
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    servers.redis.log().hold(true);
    servers.relayed(&[]).await;
    servers.writer.put("k", 2).await.unwrap();
    pass(&servers.hand, BOUND).await;
    // What was buffered meanwhile is told; nothing of it is newer than the stop.
    servers.redis.log().hold(false);
    assert_eq!(read(&here, "k").await, Some((2, STORE)));
}

/// Anomaly 7: the tier goes back, and nobody had read further in its log.
#[tokio::test(start_paused = true)]
async fn a_tier_that_went_back_is_read_past_until_a_relay_has_caught_up() {
    let mut servers = servers();
    let here = servers.process(without_near());
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    here.settled().await;
    let (saved, mark): (Saved, _) = (servers.redis.save(), servers.relay.mark);
    servers.writer.put("k", 2).await.unwrap();
    servers.relayed(&["k"]).await;
    servers.unrelayed(BOUND - ms(100)).await;
    servers.redis.go_back(&saved);
    servers.unrelayed(ms(60)).await;
    assert_eq!(read(&here, "k").await, Some((2, STORE)), "the copy of 1 is back, with its old mark");
    assert!(!servers.relay.publish(&[]).await, "the mark is another");
    servers.relay.mark = mark;
    servers.relayed(&["k"]).await;
    assert_eq!(read(&here, "k").await.unwrap().0, 2);
    here.settled().await;
    assert_eq!(read(&here, "k").await, Some((2, TIER)));
}

#[tokio::test(start_paused = true)]
async fn near_over_a_tier_that_went_back_is_as_new() {
    let mut servers = servers();
    let here = servers.process(builder());
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    here.settled().await;
    let (saved, mark) = (servers.redis.save(), servers.relay.mark);
    servers.writer.put("k", 2).await.unwrap();
    servers.relayed(&["k"]).await;
    assert_eq!(read(&here, "k").await.unwrap().0, 2);
    servers.unrelayed(BOUND).await;
    servers.redis.go_back(&saved);
    servers.redis.log().lose();
    servers.redis.log().beat();
    assert_eq!(read(&here, "k").await, Some((2, STORE)));
    servers.relay.mark = mark;
    servers.relayed(&["k"]).await;
    assert_eq!(read(&here, "k").await.unwrap().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_log_ends_the_proofs_that_rest_on_it() {
    let mut servers = servers();
    let here = servers.process(without_near());
    servers.writer.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    here.settled().await;
    servers.redis.log().lose();
    assert_eq!(read(&here, "k").await, Some((1, STORE)));
    servers.relayed(&[]).await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
}

/// Serves what it has on errors.
struct OnError;

impl Freshness for OnError {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }

    fn on_error(&self, _hit: &StaleHit) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_proven_is_an_error_or_marked_stale_where_the_store_is_away() {
    let mut servers = servers();
    for of in [builder, without_near] {
        let (strict, lenient) = (servers.process(of()), servers.process(of().freshness(OnError)));
        servers.db.set_down(false);
        servers.writer.put("k", 1).await.unwrap();
        servers.relayed(&[]).await;
        for cache in [&strict, &lenient] {
            read(cache, "k").await;
            cache.settled().await;
        }
        servers.unrelayed(BOUND).await;
        servers.db.set_down(true);
        assert!(strict.get("k").await.unwrap_err().is_transient());
        let value = lenient.get("k").await.unwrap().unwrap();
        assert!(*value == 1 && value.served().stale);
        let loader = Loader::default();
        let value = lenient.get_or_load("k", || loader.give(9, ms(0))).await.unwrap();
        assert!(*value == 1 && value.served().stale);
        let many = lenient.get_many(&["k".to_owned()]).await.into_values().unwrap();
        assert!(many[0].as_ref().is_some_and(|value| value.served().stale));
    }
}

/// Serves what is past its time.
struct Serve;

impl Freshness for Serve {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Serve
    }
}

/// A second, and a minute in which it may be served; absences too.
struct Brief;

impl terrace_core::Expiry for Brief {
    fn lifetime(&self, _writing: &terrace_core::Writing) -> terrace_core::Lifetime {
        terrace_core::Lifetime { fresh: ms(1_000), stale: ms(60_000) }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_serves_past_its_time_is_marked_and_an_absence_cannot_be() {
    for of in [builder, without_near] {
        let mut servers = servers();
        let here = servers.process(of().freshness(Serve).expire(Brief));
        servers.writer.put("k", 1).await.unwrap();
        servers.relayed(&[]).await;
        assert_eq!(read(&here, "k").await, Some((1, STORE)));
        assert_eq!(read(&here, "absent").await, None);
        here.settled().await;
        servers.unrelayed(ms(2_000)).await;
        for key in ["k", "absent"] {
            servers.writer.put(key, 2).await.unwrap();
        }
        let keys = ["k".to_owned(), "absent".to_owned()];
        let many = here.get_many(&keys).await.into_values().unwrap();
        for (k, absent) in [
            (here.get("k").await.unwrap(), here.get("absent").await.unwrap()),
            (many[0].clone(), many[1].clone()),
        ] {
            assert!(k.is_some_and(|k| *k == 1 && k.served().stale));
            assert!(absent.is_some_and(|absent| *absent == 2 && !absent.served().stale));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_of_its_own_log_needs_no_marks() {
    let hand = Clock::manual();
    let db = fake("db", &hand).with_log();
    let cache = |db: Fake| builder().clock(&hand).level(LEVEL).store(db).build().unwrap();
    let (here, there) = (cache(db.clone()), cache(db.another_handle()));
    pass(&hand, ms(1)).await;
    db.log().beat();
    there.put("k", 1).await.unwrap();
    read(&here, "k").await;
    for _ in 0..20 {
        pass(&hand, ms(100)).await;
        db.log().beat();
        assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    }
    db.log().hold(true);
    there.put("k", 2).await.unwrap();
    pass(&hand, BOUND).await;
    assert_eq!(read(&here, "k").await, Some((2, STORE)), "the log is not heard");
}

#[tokio::test(start_paused = true)]
async fn without_a_log_near_believes_a_reading_for_the_bound() {
    let hand = Clock::manual();
    let db = fake("db", &hand);
    let cache = |db: Fake| builder().clock(&hand).level(LEVEL).store(db).build().unwrap();
    let (here, there) = (cache(db.clone()), cache(db.another_handle()));
    there.put("k", 1).await.unwrap();
    read(&here, "k").await;
    there.put("k", 2).await.unwrap();
    pass(&hand, BOUND - ms(1)).await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    pass(&hand, ms(1)).await;
    assert_eq!(read(&here, "k").await, Some((2, STORE)));
}

/// Anomaly 29: a loader that began long ago says what was true then.
#[tokio::test(start_paused = true)]
async fn a_load_that_began_too_long_before_the_call_is_no_answer() {
    let hand = Clock::manual();
    let origin = Truth(fake("origin", &hand));
    let cache = builder().clock(&hand).level(LEVEL).changes(&origin).build().unwrap();
    let (slow, quick) = (Loader::default(), Loader::default());
    let first = {
        let (cache, slow) = (cache.clone(), slow.clone());
        tokio::spawn(async move { *cache.get_or_load("k", || slow.give(1, ms(2_000))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    pass(&hand, BOUND / 2).await;
    let within = {
        let (cache, quick) = (cache.clone(), quick.clone());
        tokio::spawn(async move { *cache.get_or_load("k", || quick.give(2, ms(1))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    pass(&hand, BOUND).await;
    let mut late = Vec::new();
    for _ in 0..20 {
        let (cache, quick) = (cache.clone(), quick.clone());
        late.push(tokio::spawn(
            async move { *cache.get_or_load("k", || quick.give(2, ms(1))).await.unwrap() },
        ));
    }
    let many = {
        let (cache, quick) = (cache.clone(), quick.clone());
        tokio::spawn(async move {
            let load = |missing: terrace_core::Missing<String>| {
                let load = quick.give(2, ms(1));
                async move { load.await.map(|value| missing.zip(vec![value])) }
            };
            *cache.get_or_load_many(&["k".to_owned()], load).await.into_values().unwrap()[0].clone().unwrap()
        })
    };
    tokio::task::yield_now().await;
    pass(&hand, ms(2_000)).await;
    assert_eq!(first.await.unwrap(), 1);
    assert_eq!(within.await.unwrap(), 1, "the load began within the bound before this call");
    for late in late {
        assert_eq!(late.await.unwrap(), 2);
    }
    assert_eq!(many.await.unwrap(), 2);
    assert_eq!(slow.runs(), 1);
    assert!(quick.runs() <= 2, "those who came late share a load: {}", quick.runs());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_began_too_long_before_the_call_is_no_answer() {
    let hand = Clock::manual();
    let db = fake("db", &hand);
    let cache = builder().clock(&hand).level(LEVEL).store(db.clone()).build().unwrap();
    db.set_latency(ms(1_000));
    let first = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("k").await.unwrap().is_some() })
    };
    tokio::task::yield_now().await;
    pass(&hand, BOUND).await;
    let second = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("k").await.unwrap().is_some() })
    };
    tokio::task::yield_now().await;
    assert!(!first.await.unwrap() && !second.await.unwrap());
    assert_eq!(db.calls().trips(), 2, "each asked, since absence may be old too");
}

#[tokio::test(start_paused = true)]
async fn without_a_truth_the_age_from_the_load_on_is_the_bound() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand).with_log();
    let cache = |redis: Fake| {
        let of = builder().clock(&hand).level(LEVEL).tier(redis);
        of.expire(Lives(BOUND)).build().unwrap()
    };
    let (here, there) = (cache(redis.clone()), cache(redis.another_handle()));
    let loader = Loader::default();
    let load = {
        let (here, loader) = (here.clone(), loader.clone());
        tokio::spawn(async move { *here.get_or_load("k", || loader.give(1, ms(200))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    pass(&hand, ms(200)).await;
    assert_eq!(load.await.unwrap(), 1);
    here.settled().await;
    pass(&hand, BOUND - ms(201)).await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    assert_eq!(read(&there, "k").await, Some((1, TIER)));
    pass(&hand, ms(1)).await;
    assert_eq!(read(&here, "k").await, None, "half a second since the loader was asked");
    assert_eq!(read(&there, "k").await, None);
    let unsupported = there.expire("k", ms(10_000)).await.unwrap_err();
    assert_eq!(unsupported.kind(), terrace_core::ErrorKind::Unsupported);
}

struct Lives(Duration);

impl terrace_core::Expiry for Lives {
    fn lifetime(&self, _writing: &terrace_core::Writing) -> terrace_core::Lifetime {
        terrace_core::Lifetime::fresh(self.0)
    }
}

/// The copy of 1 is in the tier and not proven any more; the store has 2.
async fn with_an_old_copy(of: Builder<String, u64, Near>) -> (Servers, Stack) {
    let mut servers = servers();
    let here = servers.process(of);
    for key in ["k", "l"] {
        servers.writer.put(key, 1).await.unwrap();
        servers.relayed(&[]).await;
        read(&here, key).await;
    }
    here.settled().await;
    servers.unrelayed(BOUND * 3).await;
    for key in ["k", "l"] {
        servers.writer.put(key, 2).await.unwrap();
    }
    (servers, here)
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_lookup_that_asked_for_less_looks_again() {
    let (servers, here) = with_an_old_copy(builder()).await;
    servers.redis.set_latency(ms(10));
    let fenced = {
        let fenced = here.with(Level::Fenced);
        tokio::spawn(async move { read(&fenced, "k").await })
    };
    tokio::task::yield_now().await;
    let loader = Loader::default();
    let joined = [
        tokio::spawn({
            let here = here.clone();
            async move { read(&here, "k").await }
        }),
        tokio::spawn({
            let (here, loader) = (here.clone(), loader.clone());
            async move {
                let value = here.get_or_load("k", || loader.give(9, ms(0))).await.unwrap();
                Some((*value, value.served().from))
            }
        }),
    ];
    assert_eq!(fenced.await.unwrap(), Some((1, TIER)));
    for joined in joined {
        assert_eq!(joined.await.unwrap(), Some((2, STORE)));
    }
    assert_eq!(loader.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn batches_read_past_what_is_not_proven() {
    for of in [builder, without_near] {
        let (mut servers, here) = with_an_old_copy(of()).await;
        let keys = ["k".to_owned(), "absent".to_owned(), "l".to_owned(), "k".to_owned()];
        let values = |many: terrace_core::Many<u64>| -> Vec<Option<u64>> {
            many.into_values().unwrap().into_iter().map(|value| value.map(|value| *value)).collect()
        };
        assert_eq!(values(here.get_many(&keys).await), [Some(2), None, Some(2), Some(2)]);
        servers.unrelayed(BOUND).await;
        let load = |missing: terrace_core::Missing<String>| async move {
            assert_eq!(missing.keys(), ["absent"]);
            Ok::<_, std::io::Error>(missing.zip(vec![7]))
        };
        assert_eq!(values(here.get_or_load_many(&keys, load).await), [Some(2), Some(7), Some(2), Some(2)]);
        servers.relayed(&["k", "l"]).await;
        assert_eq!(values(here.get_many(&keys).await), [Some(2), Some(7), Some(2), Some(2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_replaces_what_is_not_proven() {
    let (mut servers, here) = with_an_old_copy(without_near()).await;
    let loader = Loader::default();
    let value = here.refresh("k", |_| loader.give(9, ms(0))).await.unwrap().unwrap();
    assert_eq!((*value, loader.runs()), (2, 0));
    here.settled().await;
    servers.relayed(&[]).await;
    assert_eq!(read(&here, "k").await, Some((2, TIER)));
}

#[tokio::test(start_paused = true)]
async fn an_absence_needs_proof_too() {
    struct Absences;
    impl terrace_core::Expiry for Absences {
        fn lifetime(&self, _writing: &terrace_core::Writing) -> terrace_core::Lifetime {
            terrace_core::Lifetime::fresh(ms(60_000))
        }
    }
    for of in [builder, without_near] {
        let mut servers = servers();
        let here = servers.process(of().expire(Absences));
        servers.relayed(&[]).await;
        assert_eq!(read(&here, "k").await, None);
        here.settled().await;
        servers.writer.put("k", 1).await.unwrap();
        assert_eq!(read(&here, "k").await, None, "nobody has told");
        servers.unrelayed(BOUND).await;
        assert_eq!(read(&here, "k").await, Some((1, STORE)));
    }
}

#[tokio::test(start_paused = true)]
async fn one_mark_proves_the_copies_of_all_tenants() {
    let mut servers = servers();
    let of = |redis: Fake, db: Fake| {
        let of = without_near().clock(&servers.hand).level(LEVEL).tier(redis).store(Truth(db));
        of.build_per_tenant().unwrap().tenant("ann").unwrap()
    };
    let here = of(servers.redis.another_handle(), servers.db.another_handle());
    here.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    here.settled().await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
    servers.unrelayed(BOUND).await;
    assert_eq!(read(&here, "k").await, Some((1, STORE)));
}

/// Whether a run reads nothing that is older than the bound: it must, and must not without the defence.
fn is_missed<F: Future<Output = bool>>(defence: Defence, run: fn() -> F) {
    let keeps = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(run())
    };
    assert!(keeps(), "with {defence:?}");
    assert!(!without(defence, keeps), "without {defence:?}");
}

#[test]
fn proofs_of_copies_are_missed_where_nobody_asks_for_them() {
    is_missed(Defence::Proof, || async {
        let (_servers, here) = with_an_old_copy(without_near()).await;
        read(&here, "k").await == Some((2, STORE))
    });
}

#[test]
fn the_time_of_the_call_is_missed_where_joiners_do_not_look_at_it() {
    is_missed(Defence::InTime, || async {
        let (servers, here) = with_an_old_copy(builder()).await;
        servers.redis.set_latency(ms(10));
        let fenced = here.with(Level::Fenced);
        let first = tokio::spawn(async move { read(&fenced, "k").await });
        tokio::task::yield_now().await;
        let joined = read(&here, "k").await;
        first.await.unwrap();
        joined == Some((2, STORE))
    });
}

#[test]
fn marks_are_missed_where_near_goes_by_the_log_that_it_hears() {
    is_missed(Defence::Marks, || async {
        let mut servers = servers();
        let here = servers.process(builder());
        servers.writer.put("k", 1).await.unwrap();
        servers.relayed(&[]).await;
        read(&here, "k").await;
        servers.writer.put("k", 2).await.unwrap();
        servers.unrelayed(BOUND).await;
        read(&here, "k").await == Some((2, STORE))
    });
}
