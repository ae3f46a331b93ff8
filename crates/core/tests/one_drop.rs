//! A change that this process has applied itself costs one load, and hides no other change.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use support::{Stack, builder, fake, ms, without_near};
use terrace_conformance::Fake;
use terrace_core::{Backend, BoxError, Error, ErrorKind, Result, Source};
use terrace_tier::{
    Clock, Follower, InvalidationLog, ManualClock, Namespace, Notice, NumberedChanges, Replay, Tier,
};

/// An origin with one number for all keys. Its log numbers the changes from 0 on, and tells of them only when
/// the test says so.
#[derive(Clone, Default)]
struct Origin(Arc<Shared>);

#[derive(Default)]
struct Shared {
    value: AtomicU64,
    changes: Mutex<Vec<Notice>>,
    followers: Mutex<Vec<Weak<dyn Follower>>>,
    /// The changes that a relay may read.
    readable: AtomicU64,
}

impl Origin {
    /// Changes the value, and returns the number of the change of this key.
    fn change(&self, value: u64, key: &str) -> u64 {
        self.0.value.store(value, Ordering::SeqCst);
        let key = Bytes::copy_from_slice(key.as_bytes());
        let mut changes = self.0.changes.lock();
        changes.push(Notice::Key { tenant: None, key, version: None });
        changes.len() as u64 - 1
    }

    /// Tells the followers of this change, and lets relays read up to it.
    fn tell(&self, number: u64) {
        let notice = self.0.changes.lock()[number as usize].clone();
        self.0.readable.store(number + 1, Ordering::SeqCst);
        for follower in self.0.followers.lock().iter().filter_map(Weak::upgrade) {
            follower.change(number, &notice);
        }
    }

    fn read(&self) -> impl Future<Output = Result<u64, BoxError>> + Send + 'static + use<> {
        let value = self.0.value.load(Ordering::SeqCst);
        async move {
            tokio::time::sleep(ms(10)).await;
            Ok(value)
        }
    }
}

impl Backend for Origin {
    fn name(&self) -> &str {
        "origin"
    }

    fn open(&self, _: &Namespace) -> Result<Arc<dyn Tier>> {
        Err(Error::new(ErrorKind::Config, "only the loader reads the origin"))
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        Some(Arc::new(self.clone()))
    }
}

impl InvalidationLog for Origin {
    fn follow(&self, _: &str, follower: Weak<dyn Follower>) {
        self.0.followers.lock().push(follower);
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Replay for Origin {
    async fn end(&self) -> Result<Bytes> {
        Ok(self.0.readable.load(Ordering::SeqCst).to_string().into())
    }

    async fn since(&self, _: &str, _: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        Err(Error::new(ErrorKind::Unsupported, "a relay asks for the numbers"))
    }

    async fn changes_since(&self, _: &str, position: &Bytes) -> Result<Option<NumberedChanges>> {
        let from: usize = std::str::from_utf8(position).unwrap().parse().unwrap();
        let to = self.0.readable.load(Ordering::SeqCst) as usize;
        let changes = self.0.changes.lock();
        let numbered = (from..to).map(|number| (Some(number as u64), changes[number].clone()));
        Ok(Some((numbered.collect(), to.to_string().into())))
    }
}

async fn read(cache: &Stack, origin: &Origin) -> u64 {
    let value = *cache.get_or_load("k", || origin.read()).await.unwrap();
    cache.settled().await;
    value
}

/// Near alone, over a watched origin.
fn near(hand: &ManualClock, origin: &Origin) -> Stack {
    builder().clock(hand).watch_origin(origin).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_log_drops_no_near_copy_that_came_after_the_same_change() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let cache = near(&hand, &origin);
    assert_eq!(read(&cache, &origin).await, 0);
    let number = origin.change(1, "k");
    cache.invalidate_change("k", number).await.unwrap();
    assert_eq!(read(&cache, &origin).await, 1);
    origin.tell(number);
    assert_eq!(read(&cache, &origin).await, 1);
    assert_eq!(cache.stats().loads, 2, "one load for the change");
}

#[tokio::test(start_paused = true)]
async fn the_log_detaches_no_load_that_began_after_the_same_change() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let cache = near(&hand, &origin);
    let number = origin.change(1, "k");
    cache.invalidate_change("k", number).await.unwrap();
    let load = async { read(&cache, &origin).await };
    let told = async {
        tokio::time::sleep(ms(5)).await;
        origin.tell(number);
    };
    assert_eq!(tokio::join!(load, told).0, 1);
    assert_eq!(read(&cache, &origin).await, 1);
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test(start_paused = true)]
async fn another_change_of_the_key_drops_the_copy_whatever_was_applied() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let cache = near(&hand, &origin);
    let applied = origin.change(1, "k");
    cache.invalidate_change("k", applied).await.unwrap();
    assert_eq!(read(&cache, &origin).await, 1);
    let other = origin.change(2, "k");
    origin.tell(applied);
    origin.tell(other);
    assert_eq!(read(&cache, &origin).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_the_change_is_dropped_by_the_call_itself() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let cache = near(&hand, &origin);
    let load = async { read(&cache, &origin).await };
    let changed = async {
        tokio::time::sleep(ms(5)).await;
        let number = origin.change(1, "k");
        cache.invalidate_change("k", number).await.unwrap();
        origin.tell(number);
    };
    assert_eq!(tokio::join!(load, changed).0, 0, "asked before the change");
    assert_eq!(read(&cache, &origin).await, 1);
}

/// Redis over a watched origin, in a process that relays.
async fn over_redis(hand: &ManualClock, origin: &Origin) -> (Stack, Fake) {
    let redis = fake("redis", hand);
    let cache = without_near().clock(hand).tier(redis.clone()).watch_origin(origin).build().unwrap();
    cache.ready().await.unwrap();
    (cache, redis)
}

/// Lets the relay make its next step.
async fn step() {
    tokio::time::sleep(ms(1_500)).await;
}

#[tokio::test(start_paused = true)]
async fn the_relay_drops_no_shared_copy_that_came_after_the_same_change() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let (cache, _redis) = over_redis(&hand, &origin).await;
    assert_eq!(read(&cache, &origin).await, 0);
    for value in 1..=5 {
        hand.advance(ms(100));
        let number = origin.change(value, "k");
        cache.invalidate_change("k", number).await.unwrap();
        assert_eq!(read(&cache, &origin).await, value);
        origin.tell(number);
        step().await;
        let hit = cache.get("k").await.unwrap().expect("the new copy");
        assert_eq!((*hit, hit.served().from), (value, Source::Tier("redis")));
    }
    assert_eq!(cache.stats().loads, 6);
    let other = origin.change(9, "k");
    origin.tell(other);
    step().await;
    assert_eq!(read(&cache, &origin).await, 9, "another change");
}

#[tokio::test(start_paused = true)]
async fn a_call_after_the_relay_has_dropped_the_copies_drops_no_newer_one_in_the_shared_tier() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let (cache, _redis) = over_redis(&hand, &origin).await;
    assert_eq!(read(&cache, &origin).await, 0);
    let number = origin.change(1, "k");
    origin.tell(number);
    step().await;
    assert_eq!(read(&cache, &origin).await, 1, "another caller's load");
    cache.invalidate_change("k", number).await.unwrap();
    let hit = cache.get("k").await.unwrap().expect("the new copy");
    assert_eq!((*hit, hit.served().from), (1, Source::Tier("redis")));
    assert_eq!(cache.stats().loads, 2);
}

#[tokio::test(start_paused = true)]
async fn the_relay_waits_a_moment_for_a_call_that_is_expected() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let (cache, _redis) = over_redis(&hand, &origin).await;
    assert_eq!(read(&cache, &origin).await, 0);
    step().await;
    let number = origin.change(1, "k");
    let expected = cache.expect_change(number);
    origin.tell(number);
    tokio::time::sleep(ms(20)).await;
    assert_eq!(*cache.get("k").await.unwrap().expect("not dropped yet"), 0);
    cache.invalidate_change("k", number).await.unwrap();
    drop(expected);
    assert_eq!(read(&cache, &origin).await, 1);
    step().await;
    assert_eq!(read(&cache, &origin).await, 1);
    assert_eq!(cache.stats().loads, 2);
    // A call that never comes delays the relay by 50 ms, and no more.
    let number = origin.change(2, "k");
    let _expected = cache.expect_change(number);
    origin.tell(number);
    tokio::time::sleep(ms(100)).await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failover_that_undoes_the_drop_leaves_no_old_copy() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let (cache, redis) = over_redis(&hand, &origin).await;
    assert_eq!(read(&cache, &origin).await, 0);
    step().await;
    let replica = redis.save();
    hand.advance(ms(100));
    let number = origin.change(1, "k");
    cache.invalidate_change("k", number).await.unwrap();
    redis.go_back(&replica);
    assert_eq!(read(&cache, &origin).await, 0, "the replica has the old copy");
    origin.tell(number);
    step().await;
    assert_eq!(read(&cache, &origin).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_tier_did_not_confirm_is_dropped_by_the_log() {
    let (hand, origin) = (Clock::manual(), Origin::default());
    let (cache, redis) = over_redis(&hand, &origin).await;
    assert_eq!(read(&cache, &origin).await, 0);
    redis.set_down(true);
    let number = origin.change(1, "k");
    let error = cache.invalidate_change("k", number).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Partial, Some("invalidate_change")));
    redis.set_down(false);
    origin.tell(number);
    step().await;
    assert_eq!(read(&cache, &origin).await, 1);
}
