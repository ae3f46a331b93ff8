//! What this process last heard of a namespace's epoch, and when it asked.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::Epoch;
use tokio::time::Instant;

/// A hearing is trusted for so long; then a read asks for the epoch with the entry.
const TRUST: Duration = Duration::from_millis(100);

/// The epoch of one namespace and tenant, as heard.
///
/// Dated by when the question was sent: an answer that was long under way, or a process that was
/// stopped in between, must not make old news look new.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Orders the writers; readers, on every hit, only load.
    asked_at: Mutex<Option<Instant>>,
    /// Zero for none: no epoch is zero.
    epoch: AtomicU64,
    /// Until when the epoch is trusted, in nanoseconds since `start`.
    fresh_until: AtomicU64,
    start: Instant,
}

impl Heard {
    pub(crate) fn new() -> Self {
        let (epoch, fresh_until) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { asked_at: Mutex::new(None), epoch, fresh_until, start: Instant::now() }
    }

    /// Takes an answer; `None` says that the server has lost the epoch. An answer to an older
    /// question changes nothing.
    pub(crate) fn hear(&self, epoch: Option<Epoch>, asked_at: Instant) {
        let mut last = self.asked_at.lock();
        if last.is_some_and(|last| last > asked_at) {
            return;
        }
        *last = Some(asked_at);
        let fresh_until = epoch.map_or(0, |_| self.nanos(asked_at + TRUST));
        // In this order: who sees the later date sees the epoch that belongs to it.
        self.epoch.store(epoch.map_or(0, Epoch::as_u64), Ordering::Relaxed);
        self.fresh_until.store(fresh_until, Ordering::Release);
    }

    /// It was changed by this process. What was asked before now may still answer with the one before,
    /// and changes nothing.
    pub(crate) fn forget(&self) {
        self.hear(None, Instant::now());
    }

    /// The last epoch heard, however old.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != 0).map(Epoch::from_u64)
    }

    /// Whether the last epoch heard may still be trusted.
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
    async fn a_hearing_grows_old_from_the_time_of_its_question() {
        let (heard, epoch) = (Heard::new(), Epoch::from_u64(7));
        assert!(!heard.is_fresh());
        let asked_at = Instant::now();
        tokio::time::advance(Duration::from_millis(60)).await;
        heard.hear(Some(epoch), asked_at);
        assert!(heard.is_fresh());
        tokio::time::advance(Duration::from_millis(40)).await;
        assert!(!heard.is_fresh());
        assert_eq!(heard.epoch(), Some(epoch));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_answer_does_not_replace_a_newer_one() {
        let heard = Heard::new();
        let first = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        heard.hear(Some(Epoch::from_u64(2)), Instant::now());
        heard.hear(Some(Epoch::from_u64(1)), first);
        assert_eq!(heard.epoch(), Some(Epoch::from_u64(2)));
        heard.hear(None, Instant::now());
        assert_eq!(heard.epoch(), None);
        assert!(!heard.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn an_epoch_changed_here_is_not_brought_back_by_what_was_asked_before() {
        let heard = Heard::new();
        // Asked after the clear was sent, answered by the server before it.
        let asked_at = Instant::now();
        heard.hear(Some(Epoch::from_u64(1)), asked_at);
        tokio::time::advance(Duration::from_millis(1)).await;
        heard.forget();
        assert_eq!(heard.epoch(), None);
        heard.hear(Some(Epoch::from_u64(1)), asked_at);
        assert_eq!(heard.epoch(), None);
    }
}
