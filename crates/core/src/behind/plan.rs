//! What a write-behind policy decides: when the dirty writes are flushed, and how many there may be.

use std::time::Duration;

use super::FrontPlace;

/// The settings of a cache with write-behind. [`WritePolicy::behind`](crate::policy::WritePolicy::behind) gives
/// them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BehindPlan {
    /// Where the front keeps what it has acknowledged.
    pub place: FrontPlace,
    /// How long a write may wait for its flush, while the store answers.
    pub delay: Duration,
    /// The most writes in one flush.
    pub batch: usize,
    /// The pauses after a flush that failed.
    pub retry: FullJitter,
    /// How often a write that the store refuses is sent before it becomes a dead letter.
    pub attempts: u32,
    /// How much may be dirty.
    pub cap: Backlog,
}

impl Default for BehindPlan {
    /// A front in memory, a delay of 50 ms, batches of 1,000 writes, pauses of 50 ms to 30 s, 3 attempts, and the default
    /// [`Backlog`].
    fn default() -> Self {
        Self {
            place: FrontPlace::Memory,
            delay: Duration::from_millis(50),
            batch: 1_000,
            retry: FullJitter::new(Duration::from_millis(50), Duration::from_secs(30)),
            attempts: 3,
            cap: Backlog::bytes(64 << 20),
        }
    }
}

/// Exponential pauses with full jitter: after `n` failures in a row the pause is a random time between zero and
/// `base * 2^n`, and at most `cap`. Source: Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullJitter {
    base: Duration,
    cap: Duration,
}

impl FullJitter {
    /// Pauses of at most `base` after the first failure, then twice that, up to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The pause after so many failures in a row.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let longest = self.base.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.cap);
        longest.mul_f64(fastrand::f64())
    }
}

/// How much may be dirty, and what a put does beyond that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub(super) bytes: usize,
    pub(crate) age: Duration,
    pub(super) when_full: WhenFull,
}

impl Backlog {
    /// At most so many bytes of dirty keys and values, where each key counts 256 bytes more. No write may be
    /// dirty for more than an hour, and a put waits while the backlog is full.
    pub const fn bytes(bytes: usize) -> Self {
        Self { bytes, age: Duration::from_secs(3600), when_full: WhenFull::Block }
    }

    /// Sets for how long the oldest dirty write may wait before the backlog counts as full.
    #[must_use]
    pub const fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Sets what a put does while the backlog is full.
    #[must_use]
    pub const fn when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }
}

/// What a write does while the backlog is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits until there is space, for at most 30 s, and then fails with
    /// [`ErrorKind::Backlog`](crate::ErrorKind::Backlog).
    Block,
    /// It fails at once with [`ErrorKind::Backlog`](crate::ErrorKind::Backlog).
    Reject,
    /// It is taken, and returns once the store has it. As many such writes as a batch has may wait at a time; the
    /// others wait as with `Block`. After 30 s it fails with [`ErrorKind::Unknown`](crate::ErrorKind::Unknown):
    /// the write is dirty and may still reach the store.
    SyncWrite,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        let retry = FullJitter::new(Duration::from_millis(50), Duration::from_secs(30));
        let longest = |failures| (0..200).map(|_| retry.pause(failures)).max().unwrap_or_default();
        assert!(longest(1) <= Duration::from_millis(50));
        assert!(longest(3) <= Duration::from_millis(200) && longest(3) > Duration::from_millis(100));
        assert!(longest(u32::MAX) <= Duration::from_secs(30) && longest(u32::MAX) > Duration::from_secs(15));
    }
}
