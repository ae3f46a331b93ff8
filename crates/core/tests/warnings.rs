//! A tier that does not serve its cache is told in the log: cache, tier, cause and cure, once a minute.

mod support;

use std::{
    fmt,
    io::Write,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use support::{fake, ms, without_near};
use terrace_core::{Backend, Error, ErrorKind, Result, Version};
use terrace_tier::{
    Clock, Fence, Finding, FindingTopic, FindingWatcher, Namespace, Op, Reply, Tier, TierKey,
};
use tracing_subscriber::fmt::MakeWriter;

/// The lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

/// The log is recorded until this is dropped.
struct Recording {
    _log: tracing::subscriber::DefaultGuard,
    _alone: MutexGuard<'static, ()>,
}

/// Held by each test. A log line that another test reaches first, where nobody records, may count as one that
/// nobody wants.
static ALONE: Mutex<()> = Mutex::new(());

impl Lines {
    /// Records from now on what this thread logs.
    fn record(&self) -> Recording {
        let alone = ALONE.lock();
        let log = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(false).without_time();
        let log = log.with_max_level(tracing::Level::INFO).finish();
        Recording { _log: tracing::subscriber::set_default(log), _alone: alone }
    }

    fn all(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock()).lines().map(str::to_owned).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A server that refuses writes, until it is given memory.
#[derive(Default)]
struct Refusing {
    watcher: Mutex<Option<Weak<dyn FindingWatcher>>>,
    has_memory: AtomicBool,
    is_denied: AtomicBool,
    panics: AtomicBool,
}

#[derive(Clone, Default)]
struct Shared(Arc<Refusing>);

struct RefusingTier(Arc<Refusing>);

impl Backend for Shared {
    fn name(&self) -> &str {
        "redis"
    }

    fn open(&self, _: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(RefusingTier(Arc::clone(&self.0))))
    }
}

impl fmt::Debug for RefusingTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusingTier")
    }
}

#[async_trait]
impl Tier for RefusingTier {
    async fn apply(&self, _: &TierKey, op: Op) -> Result<Reply> {
        if self.0.is_denied.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Denied, "the password is wrong"));
        }
        match op {
            Op::Get | Op::Lease { .. } => Ok(Reply::Miss(Fence::default())),
            _ if self.0.has_memory.load(Ordering::SeqCst) => Ok(Reply::Kept(Version::from_u64(1))),
            _ => Err(Error::new(ErrorKind::ReadOnly, "no memory is left")),
        }
    }

    async fn clear(&self) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        assert!(!self.0.panics.swap(false, Ordering::SeqCst), "a fault of the tier");
        Ok(())
    }

    fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        *self.0.watcher.lock() = Some(watcher);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_writes_is_told_once_a_minute_with_cause_and_cure() {
    let lines = Lines::default();
    let _recording = lines.record();
    let cache = without_near().tier(Shared::default()).build().unwrap();
    for minute in 1..=2 {
        for _ in 0..50 {
            cache.put("k", 1).await.unwrap_err();
        }
        let told = lines.all();
        assert_eq!(told.len(), minute, "{told:#?}");
        for part in ["WARN", "cache=tests", "tier=\"redis\"", "no memory is left", "check its memory"] {
            assert!(told[0].contains(part), "{part}: {told:#?}");
        }
        tokio::time::advance(ms(60_000)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_writes_again_is_told_although_it_was_never_lost() {
    let lines = Lines::default();
    let _recording = lines.record();
    let backend = Shared::default();
    let cache = without_near().tier(backend.clone()).build().unwrap();
    for _ in 0..3 {
        cache.put("k", 1).await.unwrap_err();
        cache.get("k").await.unwrap();
    }
    backend.0.has_memory.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        cache.put("k", 1).await.unwrap();
    }
    let told = lines.all();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("no memory is left") && told[1].contains("is back"), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_tier_finds_while_in_use_is_told_once_a_minute() {
    let lines = Lines::default();
    let _recording = lines.record();
    let backend = Shared::default();
    let _cache = without_near().tier(backend.clone()).build().unwrap();
    let watcher = backend.0.watcher.lock().clone().unwrap();
    let finding = Finding::slows(FindingTopic::Log, "the log cannot be read", "allow XREAD");
    for _ in 0..10 {
        watcher.upgrade().unwrap().found(&finding);
    }
    let told = lines.all();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("the log cannot be read") && told[0].contains("allow XREAD"), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_warning_and_one_line_that_says_that_it_is_over() {
    let hand = Clock::manual();
    let lines = Lines::default();
    let _recording = lines.record();
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    for _ in 0..3 {
        tier.set_down(true);
        for _ in 0..5 {
            cache.get("k").await.unwrap();
        }
        tier.set_down(false);
        // Nothing reads: the tier is probed.
        tokio::time::sleep(ms(1_500)).await;
        assert!(!cache.stats().tier("redis").unwrap().lost);
    }
    let told = lines.all();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("WARN") && told[1].contains("is back"), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_tier_is_probed_at_least_once_a_second_until_the_cache_is_dropped() {
    let _recording = Lines::default().record();
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    tier.set_down(true);
    cache.get("k").await.unwrap();
    tokio::time::sleep(ms(60_000)).await;
    tier.set_down(false);
    tokio::time::sleep(ms(1_000)).await;
    assert!(!cache.stats().tier("redis").unwrap().lost);
    tier.set_down(true);
    cache.get("k").await.unwrap();
    drop(cache);
    tier.set_down(false);
    let before = tier.calls().total();
    tokio::time::sleep(ms(10_000)).await;
    assert_eq!(tier.calls().total(), before, "no probe outlives the cache");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_was_lost_by_a_refused_login_is_told_to_be_back() {
    let lines = Lines::default();
    let _recording = lines.record();
    let backend = Shared::default();
    let cache = without_near().tier(backend.clone()).build().unwrap();
    backend.0.is_denied.store(true, Ordering::SeqCst);
    cache.get("k").await.unwrap();
    assert!(cache.stats().tier("redis").unwrap().lost);
    backend.0.is_denied.store(false, Ordering::SeqCst);
    tokio::time::sleep(ms(1_500)).await;
    let told = lines.all();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("check the user") && told[1].contains("is back"), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_panics_ends_no_probe() {
    let _recording = Lines::default().record();
    let backend = Shared::default();
    let cache = without_near().tier(backend.clone()).build().unwrap();
    backend.0.is_denied.store(true, Ordering::SeqCst);
    backend.0.panics.store(true, Ordering::SeqCst);
    cache.get("k").await.unwrap();
    tokio::time::sleep(ms(1_500)).await;
    assert!(!backend.0.panics.load(Ordering::SeqCst), "the first probe panicked");
    assert!(!cache.stats().tier("redis").unwrap().lost, "another one was answered");
}

#[tokio::test(start_paused = true)]
async fn refused_loads_are_told_once_a_minute_with_cause_and_cure() {
    let lines = Lines::default();
    let _recorded = lines.record();
    let cache = without_near().max_loads(1).load_deadline(ms(600_000)).build().unwrap();
    let held = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("held", std::future::pending::<Result<u64>>).await.map(drop) }
    });
    tokio::time::sleep(ms(1)).await;
    for key in 0..20 {
        let load = || async { Ok::<_, Error>(1) };
        assert!(cache.get_or_load(&key.to_string(), load).await.is_err());
    }
    let told = lines.all();
    assert_eq!(told.len(), 1, "{told:?}");
    for part in ["WARN", "cache=tests", "cause=\"1 loads are under way", "cure=", "max_loads"] {
        assert!(told[0].contains(part), "{part}: {told:?}");
    }
    tokio::time::sleep(ms(60_000)).await;
    for key in 0..20 {
        let load = || async { Ok::<_, Error>(1) };
        assert!(cache.get_or_load(&key.to_string(), load).await.is_err());
    }
    assert_eq!(lines.all().len(), 2, "once a minute");
    held.abort();
}
