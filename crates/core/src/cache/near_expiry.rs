//! Gives back the memory of near entries whose life has ended, also in a cache without traffic.
//!
//! Near tiers know no deadlines, so an entry that nobody reads again would stay until the engine evicts it. A
//! task looks through the near tier when the earliest end among its entries has passed. It runs only while the
//! near tier has an entry with an end, and it ends with the cache.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::{inner::Inner, tasks::Tasks};
use crate::{Key, Timestamp, Value, near::Near};

/// The shortest pause between two passes.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause while an entry has an end: the wall clock may have advanced while the machine slept.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A pause is at least so many times as long as the pass before it: passes take a hundredth of a CPU core.
const PAUSE_PER_PASS: u32 = 100;
/// A pass over more entries than this, of some milliseconds, runs outside of the runtime's own threads.
const MAX_ENTRIES_INLINE: u64 = 10_000;

/// What the task needs of a cache.
pub(super) trait NearSweep: Send + Sync {
    fn near_expiry(&self) -> &NearExpiry;

    /// Whether a pass is short.
    fn is_small(&self) -> bool;

    /// Drops the near entries whose life has ended.
    fn sweep(&self);

    fn now(&self) -> Timestamp;
}

/// When the next near entry ends, and the task that waits for it.
pub(crate) struct NearExpiry {
    /// The earliest end of an entry that the near tier may hold, in milliseconds.
    earliest: AtomicU64,
    runs: AtomicBool,
    cache: OnceLock<Weak<dyn NearSweep>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Default for NearExpiry {
    fn default() -> Self {
        Self {
            earliest: AtomicU64::new(Timestamp::NEVER.as_millis()),
            runs: AtomicBool::new(false),
            cache: OnceLock::new(),
            task: Mutex::default(),
        }
    }
}

impl NearExpiry {
    /// Makes the expiry work for `cache`, of which it is a part.
    pub(super) fn attach(&self, cache: Weak<dyn NearSweep>) {
        // The builder attaches each cache once.
        let _attached = self.cache.set(cache);
    }

    /// Notes that the near tier holds an entry that ends at `end`.
    pub(crate) fn note(&self, end: Timestamp, tasks: &Tasks) {
        if end.as_millis() < self.earliest.load(Ordering::Acquire) {
            self.earliest.fetch_min(end.as_millis(), Ordering::AcqRel);
        }
        if end != Timestamp::NEVER && !self.runs.load(Ordering::Acquire) {
            self.start(tasks);
        }
    }

    #[cold]
    fn start(&self, tasks: &Tasks) {
        let Some(cache) = self.cache.get() else { return };
        if !self.runs.swap(true, Ordering::AcqRel) {
            let running = RunGuard { cache: Weak::clone(cache), ended: false };
            // Without a runtime no task starts, and an entry that is noted later tries again.
            let Ok(task) = tasks.spawn_lasting(run(running)) else { return };
            *self.task.lock() = Some(task);
        }
    }

    fn earliest(&self) -> Timestamp {
        Timestamp::from_millis(self.earliest.load(Ordering::Acquire))
    }
}

impl Drop for NearExpiry {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// Lets the next entry start another task, where this one ended with its runtime or by a panic of the
/// application's code.
struct RunGuard {
    cache: Weak<dyn NearSweep>,
    ended: bool,
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.upgrade().filter(|_| !self.ended) {
            cache.near_expiry().runs.store(false, Ordering::Release);
        }
    }
}

async fn run(mut running: RunGuard) {
    let mut last_pass = Duration::ZERO;
    // Each pass that finds ended entries is followed by another one: an engine may have had to wait for readers
    // before it could give back the memory of what it dropped.
    let mut again = false;
    loop {
        let Some(cache) = running.cache.upgrade() else { return };
        let until_end = cache.near_expiry().earliest().since(cache.now());
        drop(cache);
        let least = PAUSE.max(last_pass * PAUSE_PER_PASS);
        let most = if again { least } else { LONGEST_PAUSE };
        tokio::time::sleep(least.max(until_end.min(most))).await;
        let Some(cache) = running.cache.upgrade() else { return };
        let ended = cache.near_expiry().earliest() <= cache.now();
        if ended || again {
            let began = Instant::now();
            if cache.is_small() {
                cache.sweep();
            } else {
                let cache = Arc::clone(&cache);
                // An error means that the runtime ends, and this task with it.
                let _passed = tokio::task::spawn_blocking(move || cache.sweep()).await;
            }
            last_pass = began.elapsed();
        }
        again = ended;
        let expiry = cache.near_expiry();
        if expiry.earliest() == Timestamp::NEVER && !again {
            expiry.runs.store(false, Ordering::Release);
            // An entry that was noted just before found a task that runs, and started none.
            running.ended = expiry.earliest() == Timestamp::NEVER || expiry.runs.swap(true, Ordering::AcqRel);
            if running.ended {
                return;
            }
        }
    }
}

impl<K: Key, V: Value, N: Near<K, V>> NearSweep for Inner<K, V, N> {
    fn near_expiry(&self) -> &NearExpiry {
        &self.near_expiry
    }

    fn is_small(&self) -> bool {
        self.near.size().entries <= MAX_ENTRIES_INLINE
    }

    fn sweep(&self) {
        // From here on each new entry notes its own end, so that none is missed.
        self.near_expiry.earliest.store(Timestamp::NEVER.as_millis(), Ordering::Release);
        let now = self.clock.now();
        // The engine runs code of the application. If that panics, the next pass goes on.
        let earliest = catch_unwind(AssertUnwindSafe(|| self.near.drop_expired(now))).unwrap_or(now);
        self.near_expiry.earliest.fetch_min(earliest.as_millis(), Ordering::AcqRel);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
