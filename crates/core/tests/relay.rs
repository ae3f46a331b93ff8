//! The relay: it drops the changes that the origin's log reports from the shared tiers, and a watermark
//! says how far it has come.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

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

/// An origin with one number for all keys, and the log of its changes. A position in the log is the
/// number of changes before it.
#[derive(Clone, Default)]
struct Origin(Arc<Shared>);

#[derive(Default)]
struct Shared {
    value: AtomicU64,
    changes: Mutex<Vec<Notice>>,
    /// The log no longer reports the changes before this one.
    cut: AtomicUsize,
    followers: Mutex<Vec<Weak<dyn Follower>>>,
    fault: Mutex<Option<Fault>>,
}

/// A fault of the log when it is asked for its end.
#[derive(Clone, Copy)]
enum Fault {
    Denied,
    Panic,
}

impl Origin {
    /// Makes a change that wakes no relay: a relay finds it when it polls.
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

impl Backend for Origin {
    fn name(&self) -> &str {
        "origin"
    }

    fn open(&self, _space: &Namespace) -> Result<Arc<dyn Tier>> {
        Err(Error::new(ErrorKind::Config, "only the loader reads the origin"))
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        Some(Arc::new(self.clone()))
    }
}

impl InvalidationLog for Origin {
    fn follow(&self, _namespace: &str, follower: Weak<dyn Follower>) {
        self.0.followers.lock().push(follower);
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Replay for Origin {
    async fn end(&self) -> Result<Bytes> {
        match *self.0.fault.lock() {
            Some(Fault::Denied) => return Err(Error::new(ErrorKind::Denied, "wrong password")),
            Some(Fault::Panic) => panic!("a log that panics on purpose"),
            None => {}
        }
        Ok(self.0.changes.lock().len().to_string().into())
    }

    async fn since(&self, _namespace: &str, position: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        let position: Option<usize> = std::str::from_utf8(position).ok().and_then(|text| text.parse().ok());
        let Some(position) = position.filter(|position| *position >= self.0.cut.load(Ordering::SeqCst))
        else {
            return Ok(None);
        };
        let changes = self.0.changes.lock();
        let rest = changes.get(position..).map(<[Notice]>::to_vec);
        Ok(rest.map(|rest| (rest, changes.len().to_string().into())))
    }
}

/// One origin and one shared tier, for the processes of a test.
struct Setup {
    hand: ManualClock,
    origin: Origin,
    redis: Fake,
}

impl Setup {
    fn new() -> Self {
        let hand = Clock::manual();
        let redis = fake("redis", &hand).with_log();
        Self { hand, origin: Origin::default(), redis }
    }

    /// A process that relays, without a near tier.
    fn process(&self, level: Level) -> Stack {
        let builder = without_near().clock(&self.hand).tier(self.redis.another_handle()).level(level);
        builder.watch_origin(&self.origin).build().unwrap()
    }

    /// Lets `time` pass on both clocks.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_millis() {
            self.hand.advance(ms(1));
            tokio::time::sleep(ms(1)).await;
        }
    }

    fn watermark_tier(&self) -> Arc<dyn Tier> {
        let namespace = Namespace::new(NAMESPACE, Role::Cache).with_budget(ms(50));
        self.redis.another_handle().open(&Watermark::namespace(&namespace)).unwrap()
    }

    async fn watermark(&self) -> Option<(Version, Watermark)> {
        match self.watermark_tier().apply(&Watermark::key(NAMESPACE), Op::Get).await.unwrap() {
            Reply::Hit(stored) => Some((stored.version, Watermark::decode(&stored.body?)?)),
            _ => None,
        }
    }

    async fn set_watermark(&self, body: Bytes) {
        let deadlines = Deadlines::forever(Timestamp::default());
        let order = Order::Author(terrace_tier::Condition::Always);
        let put = Op::Put { order, deadlines, body: Some(body), tombstone_ttl: Duration::ZERO };
        self.watermark_tier().apply(&Watermark::key(NAMESPACE), put).await.unwrap();
    }

    async fn read(&self, cache: &Stack, key: &str) -> u64 {
        *cache.get_or_load(key, || self.origin.read()).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn each_watermark_names_the_one_before_it() {
    let setup = Setup::new();
    let _relay = setup.process(Level::Fenced);
    setup.pass(ms(5)).await;
    let (mut version, watermark) = setup.watermark().await.unwrap();
    assert_eq!(watermark.version, Version::NONE, "a first watermark proves nothing");
    for _ in 0..5 {
        setup.origin.change_key(1, "k");
        setup.origin.wake();
        setup.pass(ms(5)).await;
        let (next, watermark) = setup.watermark().await.unwrap();
        assert_eq!(
            watermark.version, version,
            "the watermark must carry its version from before the changes were read"
        );
        assert!(next > version);
        version = next;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watermark_advances_ten_times_within_a_bound() {
    for (level, expected) in [
        (Level::Fenced, 10),
        (Level::Bounded(Duration::from_secs(1)), 50),
        (Level::Bounded(ms(200)), 250),
        (Level::Bounded(ms(100)), 250),
        (Level::Bounded(Duration::from_secs(60)), 10),
    ] {
        let setup = Setup::new();
        let _relay = setup.process(level);
        setup.pass(ms(5)).await;
        let (mut version, mut advances) = (setup.watermark().await.unwrap().0, 0);
        for _ in 0..5_000 {
            setup.pass(ms(1)).await;
            let now = setup.watermark().await.unwrap().0;
            advances += usize::from(now != version);
            version = now;
        }
        let range = expected * 8 / 10..=expected + 1;
        assert!(range.contains(&advances), "{level:?}: the watermark advanced {advances} times");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_failed_is_made_again_soon() {
    let setup = Setup::new();
    let _relay = setup.process(Level::Fenced);
    setup.pass(ms(5)).await;
    let (before, _) = setup.watermark().await.unwrap();
    setup.redis.set_down(true);
    setup.origin.change_key(1, "k");
    setup.origin.wake();
    setup.pass(ms(5)).await;
    setup.redis.set_down(false);
    setup.pass(ms(30)).await;
    let (after, watermark) = setup.watermark().await.unwrap();
    assert!(after > before, "the relay must not wait for its next poll to repeat a failed step");
    assert_eq!(watermark.position, "1");
}

#[tokio::test(start_paused = true)]
async fn ready_reports_what_keeps_the_relay_from_beginning() {
    let setup = Setup::new();
    *setup.origin.0.fault.lock() = Some(Fault::Denied);
    let cache = setup.process(Level::Fenced);
    assert_eq!(cache.ready().await.unwrap_err().kind(), ErrorKind::Denied);
    *setup.origin.0.fault.lock() = None;
    cache.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_log_that_panics_ends_no_relay() {
    let setup = Setup::new();
    *setup.origin.0.fault.lock() = Some(Fault::Panic);
    let cache = setup.process(Level::Fenced);
    assert_eq!(cache.ready().await.unwrap_err().kind(), ErrorKind::Panicked);
    *setup.origin.0.fault.lock() = None;
    cache.ready().await.unwrap();
    assert!(setup.watermark().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn another_relay_goes_on_from_the_watermark_that_it_read() {
    let setup = Setup::new();
    let first = setup.process(Level::Fenced);
    setup.pass(ms(5)).await;
    let second = setup.process(Level::Fenced);
    setup.pass(ms(1_000)).await;
    setup.read(&second, "k").await;
    let (version, watermark) = setup.watermark().await.unwrap();
    drop(first);
    setup.origin.change_key(1, "k");
    let mut after = setup.watermark().await.unwrap();
    // The changes wake the second relay all the time, which must not keep it from looking at the holder.
    for _ in 0..4_000 {
        if after.1.relay != watermark.relay {
            break;
        }
        setup.origin.wake();
        setup.pass(ms(1)).await;
        after = setup.watermark().await.unwrap();
    }
    assert_ne!(after.1.relay, watermark.relay, "another relay must take over from a dead holder");
    assert!(after.1.version >= version, "the watermark that it took over, or a later one");
    assert_eq!(setup.read(&second, "k").await, 1);
}

#[tokio::test(start_paused = true)]
async fn another_relay_takes_over_within_four_seconds_while_the_tier_refuses_now_and_then() {
    let refuses = |millis: u64| millis % 2_700 < 600;
    for phase in (0..2_700).step_by(900) {
        let setup = Setup::new();
        let first = setup.process(Level::Fenced);
        setup.pass(ms(5)).await;
        let (_second, _third) = (setup.process(Level::Fenced), setup.process(Level::Fenced));
        for millis in 0..3_000 + phase {
            setup.redis.set_down(refuses(millis));
            setup.pass(ms(1)).await;
        }
        setup.redis.set_down(false);
        let (_, dead) = setup.watermark().await.unwrap();
        drop(first);
        let mut now = dead.relay;
        for millis in 3_000 + phase..7_000 + phase {
            setup.redis.set_down(refuses(millis));
            setup.pass(ms(1)).await;
            if !refuses(millis) {
                now = setup.watermark().await.unwrap().1.relay;
            }
        }
        assert_ne!(now, dead.relay, "no relay took over in the phase of {phase} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watermark_that_went_back_is_replayed_from_its_position() {
    let setup = Setup::new();
    let cache = setup.process(Level::Fenced);
    setup.pass(ms(600)).await;
    assert_eq!(setup.read(&cache, "k").await, 0);
    assert_eq!(setup.read(&cache, "stays").await, 0);
    setup.pass(ms(600)).await;
    let past = setup.redis.save();
    let (_, old) = setup.watermark().await.unwrap();
    setup.origin.change_key(1, "k");
    setup.pass(ms(600)).await;
    assert_ne!(setup.watermark().await.unwrap().1.position, old.position);
    setup.redis.go_back(&past);
    let (back, watermark) = setup.watermark().await.unwrap();
    assert_eq!(watermark, old, "the watermark must go back together with the copies");
    assert_eq!(setup.read(&cache, "k").await, 0, "the old copy must be back too");
    setup.pass(ms(2_000)).await;
    assert_eq!(setup.read(&cache, "k").await, 1);
    assert_eq!(setup.read(&cache, "stays").await, 0, "a copy of an unchanged key must stay");
    assert!(setup.watermark().await.unwrap().1.version >= back);
}

#[tokio::test(start_paused = true)]
async fn a_lost_watermark_and_a_log_that_was_cut_drop_everything() {
    let setup = Setup::new();
    let cache = setup.process(Level::Fenced);
    setup.pass(ms(600)).await;
    setup.read(&cache, "k").await;
    setup.redis.evict("terrace.relay", NAMESPACE.as_bytes());
    setup.origin.change_key(1, "another");
    setup.pass(ms(2_000)).await;
    assert_eq!(
        setup.read(&cache, "k").await,
        1,
        "without a watermark no relay knows the earlier changes, so it must drop all copies"
    );
    let (version, _) = setup.watermark().await.unwrap();
    setup.origin.change_key(2, "another");
    setup.origin.cut();
    setup.origin.change_key(3, "another");
    setup.pass(ms(2_000)).await;
    assert_eq!(setup.read(&cache, "k").await, 3);
    assert!(
        setup.watermark().await.unwrap().1.version > version,
        "a step that clears must advance the watermark as well"
    );
}

#[tokio::test(start_paused = true)]
async fn the_watermark_of_an_older_program_is_left_while_it_advances_and_then_taken_over() {
    let setup = Setup::new();
    let older = || Bytes::from([&9u64.to_be_bytes()[..], b"7389012\n1\n2026\n740:740:"].concat());
    setup.set_watermark(older()).await;
    let cache = setup.process(Level::Fenced);
    for _ in 0..8 {
        setup.pass(ms(500)).await;
        assert_eq!(setup.watermark().await, None, "the watermark advances, so another program is the relay");
        setup.set_watermark(older()).await;
    }
    setup.read(&cache, "k").await;
    setup.origin.change_key(1, "another");
    setup.pass(ms(3_500)).await;
    assert!(setup.watermark().await.is_some());
    assert_eq!(
        setup.read(&cache, "k").await,
        1,
        "the position of the older program is unknown, so the relay must drop all copies"
    );
}

#[tokio::test(start_paused = true)]
async fn more_changes_than_a_step_takes_are_a_clear_of_all() {
    let setup = Setup::new();
    let cache = setup.process(Level::Fenced);
    setup.pass(ms(600)).await;
    setup.read(&cache, "k").await;
    setup.read(&cache, "0").await;
    for key in 0..2_000 {
        setup.origin.change_key(1, &key.to_string());
    }
    setup.pass(ms(600)).await;
    assert_eq!((setup.read(&cache, "0").await, setup.read(&cache, "k").await), (1, 0));
    for key in 0..2_001 {
        setup.origin.change_key(2, &key.to_string());
    }
    setup.pass(ms(600)).await;
    assert_eq!((setup.read(&cache, "0").await, setup.read(&cache, "k").await), (2, 2));
}
