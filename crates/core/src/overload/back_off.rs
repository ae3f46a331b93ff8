//! Back-off: after a failed load or renewal of a key, this process tries again only after a pause.
//!
//! During the pause, reads that may serve the key's stale value serve it at once. A read that has nothing
//! to serve is not held up: its load runs, and shares its flight as ever. The pause is one for all callers
//! of the process, begins at a second, doubles with each failed try, and ends with a success.
//!
//! Source: Brooker, Timeouts, retries and backoff with jitter, Amazon Builders' Library, 2019.

use std::{
    hash::{BuildHasher, Hash},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::{Mutex, MutexGuard};
use terrace_tier::Timestamp;
use tokio::time::Instant;

use crate::Clock;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause, before chance makes it longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// The largest part of a pause that chance adds, so that keys which failed together are not tried together.
const JITTER: f64 = 0.5;

/// How long after its pause a key that was not tried again is remembered.
const MEMORY: Duration = Duration::from_secs(60);

const SHARDS: usize = 64;

/// The most keys that a shard remembers. A further key that fails has no pause, and the load limit bounds
/// its loads.
const KEYS_PER_SHARD: usize = 1_024;

/// The keys whose last load or renewal failed, by hash.
pub(crate) struct BackOff {
    clock: Clock,
    hasher: DefaultHashBuilder,
    shards: Box<[Mutex<Shard>]>,
    keys: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    pauses: HashMap<u64, Pause>,
    swept: Option<Instant>,
}

/// The pause of one key. It ends when either clock says so: the cache's clock may be moved by hand, and
/// may go back.
#[derive(Clone, Copy)]
struct Pause {
    failures: u32,
    until: Instant,
    until_on_clock: Timestamp,
}

impl BackOff {
    pub(crate) fn new(clock: Clock) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { clock, hasher: DefaultHashBuilder::default(), shards, keys: AtomicUsize::new(0) }
    }

    /// The number of keys that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Whether the key's next try is still to be waited for.
    pub(crate) fn is_pausing(&self, key: &impl Hash) -> bool {
        self.len() > 0 && {
            let (hash, shard) = self.shard(key);
            shard.pauses.get(&hash).is_some_and(|pause| !pause.is_over(&self.clock))
        }
    }

    /// Whether the key may be tried now. Of several callers that ask after a pause, the first one may.
    pub(crate) fn may_try(&self, key: &impl Hash) -> bool {
        self.len() == 0 || {
            let (hash, mut shard) = self.shard(key);
            let Some(pause) = shard.pauses.get_mut(&hash) else { return true };
            let due = pause.is_over(&self.clock);
            if due {
                *pause = Pause::after(pause.failures.saturating_add(1), &self.clock);
            }
            due
        }
    }

    /// Notes that a load or renewal of the key has failed. The pause of a try that [`may_try`](Self::may_try)
    /// permitted has begun with that try.
    pub(crate) fn failed(&self, key: &impl Hash) {
        let (hash, mut shard) = self.shard(key);
        match shard.pauses.get_mut(&hash) {
            Some(pause) if pause.is_over(&self.clock) => *pause = Pause::after(pause.failures, &self.clock),
            Some(_) => {}
            None => {
                let is_full = shard.pauses.len() >= KEYS_PER_SHARD;
                if is_full && shard.swept.is_none_or(|swept| swept.elapsed() >= FIRST_PAUSE) {
                    self.sweep(&mut shard);
                }
                if shard.pauses.len() < KEYS_PER_SHARD {
                    shard.pauses.insert(hash, Pause::after(1, &self.clock));
                    self.keys.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Notes that the key has a fresh value again.
    pub(crate) fn succeeded(&self, key: &impl Hash) {
        if self.len() == 0 {
            return;
        }
        let (hash, mut shard) = self.shard(key);
        if shard.pauses.remove(&hash).is_some() {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The key's hash and shard. From time to time this forgets the keys that were not tried again.
    fn shard(&self, key: &impl Hash) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shards[(hash >> 48) as usize % SHARDS].lock();
        if shard.swept.is_none_or(|swept| swept.elapsed() >= MEMORY) {
            self.sweep(&mut shard);
        }
        (hash, shard)
    }

    fn sweep(&self, shard: &mut Shard) {
        let now = Instant::now();
        let before = shard.pauses.len();
        shard.pauses.retain(|_, pause| now < pause.until + MEMORY);
        self.keys.fetch_sub(before - shard.pauses.len(), Ordering::Relaxed);
        if shard.pauses.is_empty() {
            shard.pauses = HashMap::new();
        }
        shard.swept = Some(now);
    }
}

impl Pause {
    /// The pause that begins now, after this many failures in a row.
    fn after(failures: u32, clock: &Clock) -> Self {
        let doublings = failures.saturating_sub(1).min(16);
        let pause = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        let pause = pause.mul_f64(1.0 + JITTER * fastrand::f64());
        Self { failures, until: Instant::now() + pause, until_on_clock: clock.now().after(pause) }
    }

    fn is_over(&self, clock: &Clock) -> bool {
        Instant::now() >= self.until || clock.now() >= self.until_on_clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn pauses_begin_at_a_second_double_and_have_a_bound() {
        let back_off = BackOff::new(Clock::manual().clock());
        assert!(back_off.may_try(&"k") && back_off.may_try(&"k"), "nothing has failed");
        back_off.failed(&"k");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let began = Instant::now();
            while !back_off.may_try(&"k") {
                assert!(back_off.is_pausing(&"k"));
                back_off.failed(&"k");
                tokio::time::advance(10 * MILLI).await;
            }
            assert!(!back_off.may_try(&"k"), "one try for all callers");
            pauses.push(began.elapsed().as_secs_f64());
        }
        for (pause, least) in pauses.into_iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0, 16.0]) {
            assert!((least..=least * 1.5 + 0.02).contains(&pause), "{pause} of {least}");
        }
        back_off.succeeded(&"k");
        assert!(back_off.may_try(&"k") && back_off.len() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_fails_after_its_pause_begins_another_of_the_same_length() {
        let back_off = BackOff::new(Clock::manual().clock());
        back_off.failed(&"k");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(back_off.may_try(&"k"));
        tokio::time::advance(Duration::from_secs(30)).await;
        back_off.failed(&"k");
        tokio::time::advance(Duration::from_secs(2) - MILLI).await;
        assert!(back_off.is_pausing(&"k"));
        tokio::time::advance(Duration::from_secs(1) + MILLI).await;
        assert!(!back_off.is_pausing(&"k"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_the_clock_of_the_cache_says_so() {
        let hand = Clock::manual();
        let back_off = BackOff::new(hand.clock());
        back_off.failed(&"k");
        hand.advance(Duration::from_secs(2));
        assert!(!back_off.is_pausing(&"k") && back_off.may_try(&"k"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_of_failed_keys_has_a_bound_and_an_end() {
        let back_off = BackOff::new(Clock::manual().clock());
        (0..200_000).for_each(|key| back_off.failed(&key));
        let full = back_off.len();
        assert!(full <= SHARDS * KEYS_PER_SHARD && full > 60_000, "{full}");
        tokio::time::advance(MEMORY + 2 * FIRST_PAUSE).await;
        (0..10_000).for_each(|key| _ = back_off.is_pausing(&key));
        assert_eq!(back_off.len(), 0);
        assert!(back_off.shards.iter().all(|shard| shard.lock().pauses.capacity() == 0));
    }
}
