//! Counters and events tell what happened: no refused, failed or unwritten call counts as done.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::sync::Arc;

use parking_lot::Mutex;
use support::{FixedExpiry, Loader, OnStaleHit, ServeOnError, builder, fake, ms, without_near};
use terrace_core::{
    BoxError, Builder, ErrorKind, Event, Level, NoNear, Observer, Source, Stats,
    codec::Codec,
    policy::{Coalesce, OnStale},
};
use terrace_tier::{Clock, Version};

/// The names of the events that an observer got.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Observer for Told {
    fn observe(&self, _: &str, event: &Event<'_>) {
        let name = match event {
            Event::Put => "put",
            Event::Dropped => "dropped",
            Event::StaleServed => "stale",
            Event::Miss { .. } => "miss",
            Event::Failed { .. } => "failed",
            _ => return,
        };
        self.0.lock().push(name);
    }
}

impl Told {
    fn count(&self, name: &str) -> u64 {
        self.0.lock().iter().filter(|told| **told == name).count() as u64
    }

    /// Checks that puts and drops are these numbers, for the counters and for the observer.
    fn agrees(&self, stats: &Stats, puts: u64, drops: u64) {
        assert_eq!((stats.puts, stats.drops), (puts, drops));
        assert_eq!((self.count("put"), self.count("dropped")), (puts, drops));
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_counts_once_the_authority_took_it() {
    let (hand, told) = (Clock::manual(), Told::default());
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).observer(told.clone()).build().unwrap();
    let version = cache.put("k", 1).await.unwrap();
    told.agrees(&cache.stats(), 1, 0);
    assert!(!cache.put_if_absent("k", 2).await.unwrap());
    assert!(!cache.replace("k", Version::from_u64(1), 2).await.unwrap());
    told.agrees(&cache.stats(), 1, 0);
    assert!(cache.replace("k", version, 3).await.unwrap());
    told.agrees(&cache.stats(), 2, 0);
    let many = cache.put_many([("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 3)]).await;
    assert!(many.iter().all(Result::is_ok));
    told.agrees(&cache.stats(), 4, 0);
    tier.set_down(true);
    cache.put("k", 4).await.unwrap_err();
    told.agrees(&cache.stats(), 4, 0);
    cache.close().await;
    assert_eq!(cache.put("k", 5).await.unwrap_err().kind(), ErrorKind::Closed);
    told.agrees(&cache.stats(), 4, 0);
}

#[tokio::test]
async fn a_put_that_cannot_be_encoded_is_no_put() {
    let (hand, told) = (Clock::manual(), Told::default());
    let cache = Builder::<u8, f64, NoNear>::new("tests".to_owned(), NoNear).clock(&hand).codec(Codec::Json);
    let cache = cache.tier(fake("redis", &hand)).observer(told.clone()).build().unwrap();
    let many = cache.put_many([(1, f64::NAN), (2, 1.5)]).await;
    assert_eq!(many[0].as_ref().unwrap_err().kind(), ErrorKind::Unencodable);
    told.agrees(&cache.stats(), 1, 0);
}

#[tokio::test]
async fn puts_and_drops_of_a_cache_without_tiers_count_what_was_done() {
    let told = Told::default();
    let cache = builder().observer(told.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert!(!cache.put_if_absent("k", 2).await.unwrap());
    cache.invalidate("k").await.unwrap();
    cache.remove_many(&["a".to_owned(), "b".to_owned()]).await;
    cache.clear().await.unwrap();
    told.agrees(&cache.stats(), 1, 4);
}

#[tokio::test(start_paused = true)]
async fn a_drop_counts_once_every_tier_has_confirmed_it() {
    let (hand, told) = (Clock::manual(), Told::default());
    let (near, far) = (fake("redis", &hand), fake("far", &hand));
    let cache = without_near().clock(&hand).tier(near.clone()).tier(far).observer(told.clone());
    let cache = cache.build().unwrap();
    cache.invalidate("k").await.unwrap();
    cache.invalidate_many(&["a".to_owned(), "a".to_owned(), "b".to_owned()]).await;
    cache.clear().await.unwrap();
    told.agrees(&cache.stats(), 0, 4);
    near.set_down(true);
    cache.invalidate("k").await.unwrap_err();
    cache.clear().await.unwrap_err();
    told.agrees(&cache.stats(), 0, 4);
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_caller_has_gone_counts_since_it_happens() {
    let (hand, told) = (Clock::manual(), Told::default());
    let tier = fake("redis", &hand);
    tier.set_latency(ms(10));
    let cache = without_near().clock(&hand).tier(tier).observer(told.clone()).build().unwrap();
    let gone = tokio::time::timeout(ms(5), cache.put("k", 1)).await;
    assert!(gone.is_err());
    told.agrees(&cache.stats(), 0, 0);
    cache.settled().await;
    told.agrees(&cache.stats(), 1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_failed_is_an_error_of_the_tier_and_no_miss() {
    let (hand, told) = (Clock::manual(), Told::default());
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).observer(told.clone()).build().unwrap();
    tier.set_down(true);
    let loader = Loader::default();
    cache.get_or_load("k", || loader.give(1, ms(0))).await.unwrap();
    let stats = cache.stats();
    let redis = stats.tier("redis").unwrap();
    assert_eq!((redis.misses, redis.errors), (0, 1));
    assert_eq!((told.count("miss"), told.count("failed")), (0, 1));
    let many = cache.get_many(&["a".to_owned(), "b".to_owned()]).await;
    assert!(many.into_values().unwrap().iter().all(Option::is_none));
    assert_eq!(cache.stats().tier("redis").unwrap().misses, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_names_the_tier_that_holds_it_and_is_counted() {
    let (hand, told) = (Clock::manual(), Told::default());
    let tier = fake("redis", &hand);
    let expiry = || FixedExpiry::fresh(ms(1_000)).stale(ms(60_000));
    let stack = |policy: OnStaleHit| {
        let cache = without_near().clock(&hand).tier(tier.clone()).expire(expiry());
        cache.freshness(policy).observer(told.clone()).build().unwrap()
    };
    let loader = Loader::default();
    let cache = stack(OnStaleHit(OnStale::Serve));
    cache.put("k", 1).await.unwrap();
    hand.advance(ms(2_000));
    let hit = cache.get_or_load("k", || loader.give(2, ms(0))).await.unwrap();
    assert_eq!((*hit, hit.served().from, hit.served().stale), (1, Source::Tier("redis"), true));
    let many = cache.get_many(&["k".to_owned()]).await.into_values().unwrap();
    assert_eq!(many[0].as_ref().unwrap().served().from, Source::Tier("redis"));
    assert_eq!((cache.stats().stale_served, told.count("stale")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_after_a_failed_load_names_the_tier_that_holds_it() {
    let hand = Clock::manual();
    let expiry = || FixedExpiry::fresh(ms(1_000)).stale(ms(60_000));
    let loader = Loader::default();
    let far = without_near().clock(&hand).tier(fake("redis", &hand)).expire(expiry());
    let far = far.freshness(ServeOnError).build().unwrap();
    let near = builder().clock(&hand).expire(expiry()).freshness(ServeOnError).build().unwrap();
    for (cache, from) in [(far, Source::Tier("redis")), (near, Source::Near)] {
        cache.put("k", 1).await.unwrap();
        hand.advance(ms(2_000));
        let hit = cache.get_or_load("k", || loader.fail(ms(0))).await.unwrap();
        assert_eq!((*hit, hit.served().from, hit.served().stale), (1, from, true));
        assert_eq!(cache.stats().stale_served, 1);
        // The pause after the failed load ends.
        hand.advance(ms(2_000));
        let seen = Arc::new(Mutex::new(None));
        let load = |context: terrace_core::LoadContext<u64>| {
            *seen.lock() = context.stale.map(|stale| stale.served().from);
            async { Err::<u64, BoxError>("away".into()) }
        };
        cache.get_or_load_with("k", load).await.unwrap();
        assert_eq!(*seen.lock(), Some(from), "what the loader sees");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_without_a_life_is_not_counted_as_stale() {
    let hand = Clock::manual();
    let cache = without_near().clock(&hand).tier(fake("redis", &hand)).expire(FixedExpiry::fresh(ms(0)));
    let cache = cache.build().unwrap();
    let loader = Loader::default();
    assert_eq!(cache.get_or_load("k", || loader.give(1, ms(0))).await.unwrap(), 1);
    assert_eq!(cache.stats().stale_served, 0);
}

#[tokio::test(start_paused = true)]
async fn refused_calls_count_nothing() {
    let (hand, told) = (Clock::manual(), Told::default());
    let cache = without_near().clock(&hand).tier(fake("redis", &hand)).level(Level::Ttl);
    let cache =
        cache.stampede(support::FixedStampede(Coalesce::Local)).observer(told.clone()).build().unwrap();
    assert_eq!(cache.put_if_absent("k", 1).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(cache.with(Level::Strong).get("k").await.unwrap_err().kind(), ErrorKind::Unsupported);
    told.agrees(&cache.stats(), 0, 0);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.tiers[0].hits, stats.tiers[0].misses), (0, 0, 0));
}
