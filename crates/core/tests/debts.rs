//! Debts: invalidations that a tier did not confirm. Reads skip its copies until the debt is repaid.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use support::{fake, ms, without_near};
use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::{Backend, Error, ErrorKind, Result, Source, TierSettings};
use terrace_tier::{Clock, Namespace, Op, Reply, Tier, TierKey};

#[tokio::test(start_paused = true)]
async fn after_an_expire_of_unknown_outcome_no_copy_outlives_its_record() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), Faulty::new(fake("postgres", &hand)));
    let cache = without_near().clock(&hand).tier(tier.clone()).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.get("k").await.unwrap();
    cache.settled().await;
    store.arm(Fault::lose_answer().on(Call::Expire));
    assert_eq!(cache.expire("k", ms(1_000)).await.unwrap_err().kind(), ErrorKind::Unknown);
    hand.advance(ms(60_000));
    assert!(cache.get("k").await.unwrap().is_none());
}

/// A tier that refuses to write some keys.
#[derive(Debug)]
struct Picky<T>(T);

impl Backend for Picky<Fake> {
    fn name(&self) -> &str {
        "redis"
    }
    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(Picky(self.0.open(namespace)?)))
    }
}

#[async_trait]
impl Tier for Picky<Arc<dyn Tier>> {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        match op {
            Op::Invalidate { .. } | Op::Put { .. } if key.bytes.starts_with(b"bad") => {
                Err(Error::new(ErrorKind::Backend, "not this one"))
            }
            op => self.0.apply(key, op).await,
        }
    }
    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }
    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_a_tier_always_refuses_hold_up_no_other_debt() {
    let hand = Clock::manual();
    let (redis, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = without_near().clock(&hand).tier(Picky(redis.clone())).store(store).build().unwrap();
    redis.set_down(true);
    for n in 0..50 {
        cache.put(&format!("k{n}"), 2).await.unwrap();
    }
    for n in 0..600 {
        cache.put(&format!("bad{n}"), 2).await.unwrap();
    }
    redis.set_down(false);
    tokio::time::sleep(Duration::from_secs(600)).await;
    for n in 0..50 {
        let key = format!("k{n}");
        cache.get(&key).await.unwrap();
        cache.settled().await;
        let from = cache.get(&key).await.unwrap().unwrap().served().from;
        assert_eq!(from, Source::Tier("redis"), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_ten_thousand_debts_the_whole_tier_is_read_past_until_it_has_been_cleared() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(redis.clone()).build().unwrap();
    for key in ["last", "another"] {
        cache.put(key, 1).await.unwrap();
    }
    redis.set_down(true);
    let keys: Vec<String> = (0..10_000).map(|n| format!("k{n}")).chain(["last".to_owned()]).collect();
    assert!(cache.invalidate_many(&keys).await.iter().all(Result::is_err));
    redis.set_down(false);
    for key in ["last", "another"] {
        assert!(cache.get(key).await.unwrap().is_none(), "{key}");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for key in ["last", "another"] {
        assert!(cache.get(key).await.unwrap().is_none(), "the clear must have dropped {key}");
    }
    cache.put("another", 2).await.unwrap();
    assert_eq!(cache.get("another").await.unwrap().unwrap(), 2);
}

/// A tier that misbehaves in the next operation, when the test sets how.
#[derive(Debug)]
struct Misbehaving<T>(T, Arc<Mutex<Option<Misbehavior>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misbehavior {
    Panics,
    /// The tier does nothing, and answers as to another operation.
    AnswersWrongly,
}

impl Backend for Misbehaving<Fake> {
    fn name(&self) -> &str {
        "redis"
    }
    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(Misbehaving(self.0.open(namespace)?, Arc::clone(&self.1))))
    }
}

#[async_trait]
impl Tier for Misbehaving<Arc<dyn Tier>> {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let misbehavior = self.1.lock().take();
        match misbehavior {
            Some(Misbehavior::Panics) => panic!("a tier that panics on purpose"),
            Some(Misbehavior::AnswersWrongly) => Ok(Reply::Miss(terrace_tier::Fence::default())),
            None => self.0.apply(key, op).await,
        }
    }
    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }
    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_panics_while_it_is_repaid_is_repaid_later() {
    let hand = Clock::manual();
    let (redis, store, misbehavior) = (fake("redis", &hand), fake("postgres", &hand), Arc::default());
    let tier = Misbehaving(redis.clone(), Arc::clone(&misbehavior));
    let cache = without_near().clock(&hand).tier(tier).store(store).build().unwrap();
    redis.set_down(true);
    cache.put("k", 1).await.unwrap();
    redis.set_down(false);
    *misbehavior.lock() = Some(Misbehavior::Panics);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("redis"));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_panics_or_answers_wrongly_during_a_write_is_read_past() {
    for misbehaves in [Misbehavior::Panics, Misbehavior::AnswersWrongly] {
        let hand = Clock::manual();
        let (redis, store, misbehavior) = (fake("redis", &hand), fake("postgres", &hand), Arc::default());
        let tier = Misbehaving(redis, Arc::clone(&misbehavior));
        let cache = without_near().clock(&hand).tier(tier).store(store).build().unwrap();
        cache.put("k", 1).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
        cache.settled().await;
        *misbehavior.lock() = Some(misbehaves);
        let put = cache.put("k", 2).await;
        assert_eq!(put.is_err(), misbehaves == Misbehavior::Panics);
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
        tokio::time::sleep(Duration::from_secs(10)).await;
        *misbehavior.lock() = Some(misbehaves);
        assert!(cache.remove("k").await.is_err());
        assert!(cache.get("k").await.unwrap().is_none());
    }
}

/// A policy with a lifetime of five minutes, whose `cap` panics when the test sets the flag.
#[derive(Default)]
struct Panicky(AtomicBool);

impl terrace_core::policy::Expiry for &'static Panicky {
    fn lifetime(&self, _: &terrace_core::policy::WriteContext) -> terrace_core::policy::Lifetime {
        terrace_core::policy::Lifetime::fresh(Duration::from_secs(300))
    }
    fn cap(&self, ttl: Duration, _: f64) -> Duration {
        assert!(!self.0.load(Ordering::SeqCst), "a policy that panics on purpose");
        ttl
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_in_the_middle_of_a_put_leaves_no_old_copy_readable() {
    let hand = Clock::manual();
    let (redis, store) = (fake("redis", &hand).ttl(ms(60_000)), fake("postgres", &hand));
    let policy: &'static Panicky = Box::leak(Box::default());
    let cache = without_near().clock(&hand).tier(redis).store(store).expire(policy).build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    cache.settled().await;
    policy.0.store(true, Ordering::SeqCst);
    assert_eq!(cache.put("k", 2).await.unwrap_err().kind(), ErrorKind::Panicked);
    policy.0.store(false, Ordering::SeqCst);
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_remove_without_a_store_drops_copies_whatever_their_version() {
    let hand = Clock::manual();
    let (ahead, behind) = (Clock::manual(), Clock::manual());
    ahead.advance(Duration::from_secs(60));
    let redis = fake("redis", &hand);
    let stack =
        |authority: &Fake| without_near().clock(&hand).tier(redis.another_handle()).tier(authority.clone());
    let before = stack(&fake("postgres", &ahead)).build().unwrap();
    before.put("k", 1).await.unwrap();
    before.get("k").await.unwrap();
    before.settled().await;
    // The authority comes back without its data and with a correct clock.
    let after = stack(&fake("postgres", &behind)).build().unwrap();
    assert!(after.remove("k").await.unwrap());
    assert!(after.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_remove_that_the_store_did_not_take_is_the_stores_error() {
    let hand = Clock::manual();
    let (redis, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = without_near().clock(&hand).tier(redis).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    store.set_down(true);
    let error = cache.remove("k").await.unwrap_err();
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Unavailable, Some("postgres")));
    store.set_down(false);
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Store("postgres"));
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_that_came_nearer_from_a_tier_that_missed_a_drop_is_not_read() {
    let hand = Clock::manual();
    let (redis, far) = (fake("redis", &hand), fake("far", &hand));
    let link = Faulty::new(far.another_handle());
    let here = without_near().clock(&hand).tier(redis.another_handle()).tier(link.clone()).build().unwrap();
    let there =
        without_near().clock(&hand).tier(redis.another_handle()).tier(far.another_handle()).build().unwrap();
    here.put("k", 1).await.unwrap();
    link.arm(Fault::fail(ErrorKind::Unavailable).on(Call::Invalidate).times(2));
    assert_eq!(here.invalidate("k").await.unwrap_err().kind(), ErrorKind::Partial);
    // The other process copies the old value from the far tier to the nearer one, which had confirmed the
    // invalidation.
    assert_eq!(*there.get("k").await.unwrap().unwrap(), 1);
    there.settled().await;
    assert!(
        here.get("k").await.unwrap().is_none(),
        "no copy may be read before the debt to the far tier is repaid"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(link.armed(), 0);
    assert!(here.get("k").await.unwrap().is_none(), "no copy may be left after the repayment");
}
