//! A cache tier that fails or hangs delays a read by at most its budget and fails no read.

mod support;

use std::sync::Arc;

use parking_lot::Mutex;

use support::{FixedExpiry, Loader, builder, fake, ms, without_near};
use terrace_core::{Backend, ErrorKind, Event, Observer, Result, Source, TierSettings};
use terrace_tier::{Clock, Namespace, Op, Reply, Tier, TierKey};
use tokio::time::Instant;

/// Records when a tier is lost and when it is back.
#[derive(Clone, Default)]
struct EventLog(Arc<Mutex<Vec<&'static str>>>);

impl Observer for EventLog {
    fn observe(&self, _: &str, event: &Event<'_>) {
        match event {
            Event::Lost { .. } => self.0.lock().push("lost"),
            Event::Back { .. } => self.0.lock().push("back"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_down_fails_no_read_and_is_told_lost_and_back_once() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let log = EventLog::default();
    let cache = without_near().clock(&hand).tier(tier.clone()).observer(log.clone()).build().unwrap();
    let loader = Loader::default();
    tier.set_down(true);
    for _ in 0..50 {
        assert_eq!(cache.get_or_load("k", || loader.give(1, ms(1))).await.unwrap(), 1);
        assert_eq!(cache.get("k").await.unwrap().map(|value| *value), None);
    }
    assert!(cache.stats().tier("redis").unwrap().lost);
    tier.set_down(false);
    tokio::time::sleep(ms(150)).await;
    cache.get_or_load("k", || loader.give(2, ms(1))).await.unwrap();
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("redis"));
    assert_eq!(*log.0.lock(), ["lost", "back"]);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_holds_a_read_no_longer_than_its_budget() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone().budget(ms(50))).build().unwrap();
    tier.set_hanging(true);
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(cache.get_or_load("k", || Loader::default().give(1, ms(0))).await.unwrap(), 1);
        assert!(began.elapsed() <= ms(51), "{:?}", began.elapsed());
    }
    let began = Instant::now();
    assert_eq!(cache.get_or_load("k", || Loader::default().give(1, ms(0))).await.unwrap(), 1);
    assert!(began.elapsed() <= ms(1), "a read must skip a lost tier without waiting for it");
}

#[tokio::test(start_paused = true)]
async fn the_trips_of_one_request_share_the_budget_of_their_tier() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    // The tier keeps an entry for ten seconds after it is stale, although no read gets it then.
    let expiry = FixedExpiry::fresh(ms(1_000)).stale(ms(10_000));
    let cache = without_near().clock(&hand).tier(tier.clone().budget(ms(50))).expire(expiry).build().unwrap();
    cache.put("k", 1).await.unwrap();
    hand.advance(ms(2_000));
    tier.set_latency(ms(40));
    // The load makes two calls: a read, which finds a stale entry, and a lease to renew it.
    let began = Instant::now();
    assert_eq!(cache.get_or_load("k", || Loader::default().give(2, ms(0))).await.unwrap(), 2);
    assert!(began.elapsed() <= ms(51), "{:?}", began.elapsed());
    cache.settled().await;
    // Two calls again: a plain read, and the lease of a load that joined its lookup.
    let began = Instant::now();
    let load = cache.get_or_load("other", || Loader::default().give(3, ms(0)));
    let (read, loaded) = tokio::join!(cache.get("other"), load);
    assert!(read.unwrap().is_none());
    assert_eq!(loaded.unwrap(), 3);
    assert!(began.elapsed() <= ms(51), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_grouped_load_that_joined_plain_reads_takes_its_leases_in_one_trip() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    tier.set_latency(ms(5));
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    let keys: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let load = |missing: terrace_core::MissingKeys<String>| async move {
        let keys = missing.keys().to_vec();
        Ok::<_, terrace_core::BoxError>(keys.into_iter().map(|key| (key, 1)).collect::<Vec<_>>())
    };
    let (_, loaded) = tokio::join!(cache.get_many(&keys), cache.get_or_load_many(&keys, load));
    assert!(loaded.into_values().unwrap().iter().all(Option::is_some));
    cache.settled().await;
    assert_eq!(tier.calls().trips(), 3, "three trips: the lookup, the leases, the fills");
}

#[tokio::test(start_paused = true)]
async fn a_store_answers_while_its_cache_tier_is_away() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = without_near().clock(&hand).tier(tier.clone()).store(store).build().unwrap();
    cache.put("k", 1).await.unwrap();
    tier.set_down(true);
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Store("postgres"));
    cache.put("k", 2).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_missed_a_write_is_not_read_once_its_tier_is_back() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = without_near().clock(&hand).tier(tier.clone()).store(store).build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    cache.settled().await;
    tier.set_down(true);
    cache.put("k", 2).await.unwrap();
    tier.set_down(false);
    // The tier is back with the old copy. Reads skip it until it has confirmed the invalidation.
    for _ in 0..20 {
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
        tokio::time::sleep(ms(37)).await;
    }
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("redis"));
}

#[tokio::test(start_paused = true)]
async fn an_invalidate_that_a_tier_did_not_confirm_is_an_error_and_is_made_good() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = without_near().clock(&hand).tier(tier.clone()).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.get("k").await.unwrap();
    cache.settled().await;
    tier.set_down(true);
    let error = cache.remove("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial);
    assert!(error.to_string().contains("redis"), "{error}");
    tier.set_down(false);
    tokio::time::sleep(ms(2_000)).await;
    let other = without_near().clock(&hand).tier(tier).store(store).build().unwrap();
    assert!(other.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_clear_that_a_tier_did_not_confirm_is_made_good() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    tier.set_down(true);
    assert_eq!(cache.clear().await.unwrap_err().kind(), ErrorKind::Partial);
    tier.set_down(false);
    assert!(cache.get("k").await.unwrap().is_none());
    tokio::time::sleep(ms(2_000)).await;
    let other = without_near().clock(&hand).tier(tier).build().unwrap();
    assert!(other.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_a_typed_error() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = builder().clock(&hand).store(store.clone()).build().unwrap();
    store.set_down(true);
    let error = cache.get("k").await.unwrap_err();
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Unavailable, Some("postgres")));
    assert_eq!(cache.put("k", 1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(
        cache.get_or_load("k", || Loader::default().give(1, ms(0))).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test(start_paused = true)]
async fn with_its_authority_away_a_load_is_kept_near_for_the_distrust_bound_only() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    tier.set_down(true);
    cache.get_or_load("k", || Loader::default().give(1, ms(0))).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Near);
    hand.advance(ms(1_000));
    assert!(cache.get("k").await.unwrap().is_none());
    assert_eq!(cache.put("k", 2).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn timeouts_with_answers_between_them_do_not_make_a_tier_lost() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    for _ in 0..5 {
        tier.set_hanging(true);
        assert!(cache.get("k").await.unwrap().is_none());
        assert!(!cache.stats().tier("redis").unwrap().lost);
        tier.set_hanging(false);
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_late_counts_as_one_timeout() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    tier.set_hanging(true);
    let keys: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    cache.get_many(&keys).await;
    assert!(!cache.stats().tier("redis").unwrap().lost);
    assert_eq!(cache.stats().tier("redis").unwrap().errors, 5);
}

#[tokio::test(start_paused = true)]
async fn tenants_whose_handles_are_made_per_call_do_not_lose_a_tier_for_ever() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let tenants = without_near().clock(&hand).tier(tier.clone()).build_per_tenant().unwrap();
    tier.set_down(true);
    for key in 0..10_500 {
        let tenant = tenants.tenant(&format!("{}", key % 7)).unwrap();
        assert!(tenant.invalidate(&key.to_string()).await.is_err());
    }
    tier.set_down(false);
    tokio::time::sleep(ms(60_000)).await;
    let tenant = tenants.tenant("1").unwrap();
    tenant.put("k", 1).await.unwrap();
    assert_eq!(tenant.get("k").await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repayment_that_is_never_answered_is_tried_again() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let stuck = Stuck::default();
    let cache = without_near().clock(&hand).tier(StuckOnce(tier.clone(), stuck.clone())).build().unwrap();
    tier.set_down(true);
    assert!(cache.invalidate("k").await.is_err());
    tier.set_down(false);
    stuck.store(true, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(ms(5_000)).await;
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
}

type Stuck = Arc<std::sync::atomic::AtomicBool>;

/// A server that never answers one call, when the test sets the flag.
#[derive(Debug)]
struct StuckOnce(terrace_conformance::Fake, Stuck);

impl Backend for StuckOnce {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(StuckTier(self.0.open(namespace)?, Arc::clone(&self.1))))
    }
}

#[derive(Debug)]
struct StuckTier(Arc<dyn Tier>, Stuck);

#[async_trait::async_trait]
impl Tier for StuckTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        if self.1.swap(false, std::sync::atomic::Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.apply(key, op).await
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}
