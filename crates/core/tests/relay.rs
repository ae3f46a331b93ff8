//! The relay: what the truth's log tells is dropped from the shared tiers, and the mark says how far.

#![allow(clippy::unwrap_used, reason = "tests; the lint looks for the attribute on each function")]

mod support;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use support::{Stack, fake, ms, without_near};
use terrace_conformance::Fake;
use terrace_tier::{
    Backend, BoxError, Clock, Deadlines, Error, ErrorKind, Follower, InvalidationLog, Level, ManualClock,
    Namespace, Notice, Op, Order, Replay, Reply, Result, Role, Tier, Timestamp, Version, Watermark,
};

const NAMESPACE: &str = "tests";

/// A truth that is a number for all keys, and the log of its changes; a place is how many there were.
#[derive(Clone, Default)]
struct Truth(Arc<Shared>);

#[derive(Default)]
struct Shared {
    value: AtomicU64,
    changes: Mutex<Vec<Notice>>,
    /// Changes before this one are told no more.
    cut: AtomicUsize,
    followers: Mutex<Vec<Weak<dyn Follower>>>,
    trouble: Mutex<Option<Trouble>>,
}

/// What the log does instead of answering.
#[derive(Clone, Copy)]
enum Trouble {
    Denies,
    Panics,
}

impl Truth {
    /// A change that is told when the relay looks by itself.
    fn change(&self, value: u64, notice: Notice) {
        self.0.value.store(value, Ordering::SeqCst);
        self.0.changes.lock().push(notice);
    }

    fn change_key(&self, value: u64, key: &str) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.change(value, Notice::Key { tenant: None, key, version: None });
    }

    /// Wakes the relays.
    fn wake(&self) {
        for follower in self.0.followers.lock().iter().filter_map(Weak::upgrade) {
            follower.notice(&Notice::Lost);
        }
    }

    fn cut(&self) {
        self.0.cut.store(self.0.changes.lock().len(), Ordering::SeqCst);
    }

    fn read(&self) -> impl Future<Output = Result<u64, BoxError>> + Send + 'static + use<> {
        let value = self.0.value.load(Ordering::SeqCst);
        async move { Ok(value) }
    }
}

impl Backend for Truth {
    fn name(&self) -> &str {
        "truth"
    }

    fn open(&self, _space: &Namespace) -> Result<Arc<dyn Tier>> {
        Err(Error::new(ErrorKind::Config, "the truth is behind the loader"))
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        Some(Arc::new(self.clone()))
    }
}

impl InvalidationLog for Truth {
    fn follow(&self, _namespace: &str, follower: Weak<dyn Follower>) {
        self.0.followers.lock().push(follower);
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Replay for Truth {
    async fn end(&self) -> Result<Bytes> {
        match *self.0.trouble.lock() {
            Some(Trouble::Denies) => return Err(Error::new(ErrorKind::Denied, "wrong password")),
            Some(Trouble::Panics) => panic!("asked to"),
            None => {}
        }
        Ok(self.0.changes.lock().len().to_string().into())
    }

    async fn since(&self, _namespace: &str, place: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        let place: Option<usize> = std::str::from_utf8(place).ok().and_then(|place| place.parse().ok());
        let Some(place) = place.filter(|place| *place >= self.0.cut.load(Ordering::SeqCst)) else {
            return Ok(None);
        };
        let changes = self.0.changes.lock();
        let behind = changes.get(place..).map(<[Notice]>::to_vec);
        Ok(behind.map(|behind| (behind, changes.len().to_string().into())))
    }
}

/// One truth, one shared tier, and the processes of a test.
struct Stage {
    hand: ManualClock,
    truth: Truth,
    redis: Fake,
}

impl Stage {
    fn new() -> Self {
        let hand = Clock::manual();
        let redis = fake("redis", &hand).with_log();
        Self { hand, truth: Truth::default(), redis }
    }

    /// A process that relays, without a near tier.
    fn process(&self, level: Level) -> Stack {
        let built = without_near().clock(&self.hand).tier(self.redis.another_handle()).level(level);
        built.watch_origin(&self.truth).build().unwrap()
    }

    /// Lets `time` pass, on both clocks.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_millis() {
            self.hand.advance(ms(1));
            tokio::time::sleep(ms(1)).await;
        }
    }

    fn marks(&self) -> Arc<dyn Tier> {
        let space = Namespace::new(NAMESPACE.to_owned(), Role::Cache).with_budget(ms(50));
        self.redis.another_handle().open(&Watermark::namespace(&space)).unwrap()
    }

    async fn mark(&self) -> Option<(Version, Watermark)> {
        match self.marks().apply(&Watermark::key(NAMESPACE), Op::Get).await.unwrap() {
            Reply::Hit(stored) => Some((stored.version, Watermark::decode(&stored.body?)?)),
            _ => None,
        }
    }

    async fn set_mark(&self, body: Bytes) {
        let deadlines = Deadlines::forever(Timestamp::default());
        let order = Order::Author(terrace_tier::Condition::Always);
        let put = Op::Put { order, deadlines, body: Some(body), tombstone_ttl: Duration::ZERO };
        self.marks().apply(&Watermark::key(NAMESPACE), put).await.unwrap();
    }

    async fn read(&self, cache: &Stack, key: &str) -> u64 {
        *cache.get_or_load(key, || self.truth.read()).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn each_mark_names_the_one_before_it() {
    let stage = Stage::new();
    let _relay = stage.process(Level::Fenced);
    stage.pass(ms(5)).await;
    let (mut version, mark) = stage.mark().await.unwrap();
    assert_eq!(mark.watermark, Version::NONE, "a first mark proves nothing");
    for _ in 0..5 {
        stage.truth.change_key(1, "k");
        stage.truth.wake();
        stage.pass(ms(5)).await;
        let (next, mark) = stage.mark().await.unwrap();
        assert_eq!(mark.watermark, version, "what the mark was before the changes were read");
        assert!(next > version);
        version = next;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_moves_ten_times_while_a_bound_passes() {
    for (level, moves) in [
        (Level::Fenced, 10),
        (Level::Bounded(Duration::from_secs(1)), 50),
        (Level::Bounded(ms(200)), 250),
        (Level::Bounded(ms(100)), 250),
        (Level::Bounded(Duration::from_secs(60)), 10),
    ] {
        let stage = Stage::new();
        let _relay = stage.process(level);
        stage.pass(ms(5)).await;
        let (mut version, mut moved) = (stage.mark().await.unwrap().0, 0);
        for _ in 0..5_000 {
            stage.pass(ms(1)).await;
            let now = stage.mark().await.unwrap().0;
            moved += usize::from(now != version);
            version = now;
        }
        assert!((moves * 8 / 10..=moves + 1).contains(&moved), "{level:?}: {moved} moves");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_failed_is_made_again_soon() {
    let stage = Stage::new();
    let _relay = stage.process(Level::Fenced);
    stage.pass(ms(5)).await;
    let (before, _) = stage.mark().await.unwrap();
    stage.redis.set_down(true);
    stage.truth.change_key(1, "k");
    stage.truth.wake();
    stage.pass(ms(5)).await;
    stage.redis.set_down(false);
    stage.pass(ms(30)).await;
    let (after, mark) = stage.mark().await.unwrap();
    assert!(after > before, "news waits for no tick");
    assert_eq!(mark.position, "1");
}

#[tokio::test(start_paused = true)]
async fn what_keeps_the_relay_from_beginning_is_told_by_ready() {
    let stage = Stage::new();
    *stage.truth.0.trouble.lock() = Some(Trouble::Denies);
    let cache = stage.process(Level::Fenced);
    assert_eq!(cache.ready().await.unwrap_err().kind(), ErrorKind::Denied);
    *stage.truth.0.trouble.lock() = None;
    cache.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_log_that_panics_ends_no_relay() {
    let stage = Stage::new();
    *stage.truth.0.trouble.lock() = Some(Trouble::Panics);
    let cache = stage.process(Level::Fenced);
    assert_eq!(cache.ready().await.unwrap_err().kind(), ErrorKind::Panicked);
    *stage.truth.0.trouble.lock() = None;
    cache.ready().await.unwrap();
    assert!(stage.mark().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn another_relay_goes_on_from_the_mark_that_it_read() {
    let stage = Stage::new();
    let first = stage.process(Level::Fenced);
    stage.pass(ms(5)).await;
    let second = stage.process(Level::Fenced);
    stage.pass(ms(1_000)).await;
    stage.read(&second, "k").await;
    let (version, mark) = stage.mark().await.unwrap();
    drop(first);
    stage.truth.change_key(1, "k");
    let mut after = stage.mark().await.unwrap();
    // Changes that wake it all the time do not keep it from looking.
    for _ in 0..4_000 {
        if after.1.relay != mark.relay {
            break;
        }
        stage.truth.wake();
        stage.pass(ms(1)).await;
        after = stage.mark().await.unwrap();
    }
    assert_ne!(after.1.relay, mark.relay, "a holder that is gone is followed by another");
    assert!(after.1.watermark >= version, "the mark that it took over, or a later one");
    assert_eq!(stage.read(&second, "k").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_went_back_is_replayed_from_where_it_was() {
    let stage = Stage::new();
    let cache = stage.process(Level::Fenced);
    stage.pass(ms(600)).await;
    assert_eq!(stage.read(&cache, "k").await, 0);
    assert_eq!(stage.read(&cache, "stays").await, 0);
    stage.pass(ms(600)).await;
    let past = stage.redis.save();
    let (_, old) = stage.mark().await.unwrap();
    stage.truth.change_key(1, "k");
    stage.pass(ms(600)).await;
    assert_ne!(stage.mark().await.unwrap().1.position, old.position);
    stage.redis.go_back(&past);
    let (back, mark) = stage.mark().await.unwrap();
    assert_eq!(mark, old, "the mark went back with the copies");
    assert_eq!(stage.read(&cache, "k").await, 0, "and so did the old copy");
    stage.pass(ms(2_000)).await;
    assert_eq!(stage.read(&cache, "k").await, 1);
    assert_eq!(stage.read(&cache, "stays").await, 0, "what did not change stays");
    assert!(stage.mark().await.unwrap().1.watermark >= back);
}

#[tokio::test(start_paused = true)]
async fn a_lost_mark_and_a_log_that_was_cut_drop_everything() {
    let stage = Stage::new();
    let cache = stage.process(Level::Fenced);
    stage.pass(ms(600)).await;
    stage.read(&cache, "k").await;
    stage.redis.evict("terrace.relay", NAMESPACE.as_bytes());
    stage.truth.change_key(1, "another");
    stage.pass(ms(2_000)).await;
    assert_eq!(stage.read(&cache, "k").await, 1, "nobody knew what had changed before");
    let (version, _) = stage.mark().await.unwrap();
    stage.truth.change_key(2, "another");
    stage.truth.cut();
    stage.truth.change_key(3, "another");
    stage.pass(ms(2_000)).await;
    assert_eq!(stage.read(&cache, "k").await, 3);
    assert!(stage.mark().await.unwrap().1.watermark > version, "a clear certifies as drops do");
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_an_older_program_is_left_while_it_moves_and_then_taken_over() {
    let stage = Stage::new();
    let older = || Bytes::from([&9u64.to_be_bytes()[..], b"7389012\n1\n2026\n740:740:"].concat());
    stage.set_mark(older()).await;
    let cache = stage.process(Level::Fenced);
    for _ in 0..8 {
        stage.pass(ms(500)).await;
        assert_eq!(stage.mark().await, None, "it moves: another relays");
        stage.set_mark(older()).await;
    }
    stage.read(&cache, "k").await;
    stage.truth.change_key(1, "another");
    stage.pass(ms(3_500)).await;
    assert!(stage.mark().await.is_some());
    assert_eq!(stage.read(&cache, "k").await, 1, "its place is not known: all copies are dropped");
}

#[tokio::test(start_paused = true)]
async fn more_changes_than_a_step_takes_are_a_clear_of_all() {
    let stage = Stage::new();
    let cache = stage.process(Level::Fenced);
    stage.pass(ms(600)).await;
    stage.read(&cache, "k").await;
    stage.read(&cache, "0").await;
    for key in 0..2_000 {
        stage.truth.change_key(1, &key.to_string());
    }
    stage.pass(ms(600)).await;
    assert_eq!((stage.read(&cache, "0").await, stage.read(&cache, "k").await), (1, 0));
    for key in 0..2_001 {
        stage.truth.change_key(2, &key.to_string());
    }
    stage.pass(ms(600)).await;
    assert_eq!((stage.read(&cache, "0").await, stage.read(&cache, "k").await), (2, 2));
}
