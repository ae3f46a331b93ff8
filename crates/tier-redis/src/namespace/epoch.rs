//! The last epoch of a namespace that this process received, and how old it is.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::Epoch;
use tokio::time::Instant;

/// The age up to which an epoch is fresh. With an older one, a read asks for the epoch too.
const MAX_AGE: Duration = Duration::from_millis(100);

/// The last epoch of one namespace and tenant that the server sent.
///
/// Its age counts from the time at which the request was sent. So an old epoch never looks fresh,
/// even if the reply was slow or the process was stopped meanwhile.
#[derive(Debug)]
pub(crate) struct LastEpoch {
    /// When the last request was sent. The lock orders the writers; a hit loads the atomics alone.
    requested_at: Mutex<Option<Instant>>,
    /// Zero for none: no epoch is zero.
    epoch: AtomicU64,
    /// The end of the epoch's freshness, in nanoseconds since `start`.
    fresh_until: AtomicU64,
    start: Instant,
}

impl LastEpoch {
    pub(crate) fn new() -> Self {
        let (epoch, fresh_until) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { requested_at: Mutex::new(None), epoch, fresh_until, start: Instant::now() }
    }

    /// Stores the epoch of a reply; `None` means that the server has lost the epoch. The reply to an
    /// older request changes nothing.
    pub(crate) fn record(&self, epoch: Option<Epoch>, requested_at: Instant) {
        let mut last = self.requested_at.lock();
        if last.is_some_and(|last| last > requested_at) {
            return;
        }
        *last = Some(requested_at);
        let fresh_until = epoch.map_or(0, |_| self.nanos(requested_at + MAX_AGE));
        // In this order, a reader that loads the new `fresh_until` also loads the new epoch.
        self.epoch.store(epoch.map_or(0, Epoch::as_u64), Ordering::Relaxed);
        self.fresh_until.store(fresh_until, Ordering::Release);
    }

    /// Drops the epoch after this process has changed it. The reply to a request that was sent before
    /// now may still carry the old epoch, so it changes nothing.
    pub(crate) fn forget(&self) {
        self.record(None, Instant::now());
    }

    /// The last epoch, whatever its age.
    pub(crate) fn get(&self) -> Option<Epoch> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != 0).map(Epoch::from_u64)
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.nanos(Instant::now()) < self.fresh_until.load(Ordering::Acquire)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_epoch_ages_from_the_time_of_its_request() {
        let (last, epoch) = (LastEpoch::new(), Epoch::from_u64(7));
        assert!(!last.is_fresh());
        let requested_at = Instant::now();
        tokio::time::advance(Duration::from_millis(60)).await;
        last.record(Some(epoch), requested_at);
        assert!(last.is_fresh());
        tokio::time::advance(Duration::from_millis(40)).await;
        assert!(!last.is_fresh());
        assert_eq!(last.get(), Some(epoch));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_to_an_older_request_does_not_replace_a_newer_one() {
        let last = LastEpoch::new();
        let first = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        last.record(Some(Epoch::from_u64(2)), Instant::now());
        last.record(Some(Epoch::from_u64(1)), first);
        assert_eq!(last.get(), Some(Epoch::from_u64(2)));
        last.record(None, Instant::now());
        assert_eq!(last.get(), None);
        assert!(!last.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_epoch_does_not_come_back_with_the_reply_to_an_older_request() {
        let last = LastEpoch::new();
        // The request was sent after the clear, but the server answered it before the clear.
        let requested_at = Instant::now();
        last.record(Some(Epoch::from_u64(1)), requested_at);
        tokio::time::advance(Duration::from_millis(1)).await;
        last.forget();
        assert_eq!(last.get(), None);
        last.record(Some(Epoch::from_u64(1)), requested_at);
        assert_eq!(last.get(), None);
    }
}
