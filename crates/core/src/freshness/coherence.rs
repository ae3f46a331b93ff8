//! Coherence decides from the log of a shared tier whether copies in the near tier are still valid.
//!
//! The log covers a copy if this process followed the log when it kept the copy, and if the log's last
//! heartbeat is recent. A copy that the log does not cover is valid after its own proof for as long as a
//! covered copy after a heartbeat. Without a working log, a near tier uses each copy only for a maximum
//! staleness after the copy's proof.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::defence::{Defence, enabled};
use tokio::sync::Notify;

use super::proof::{MaxStaleness, UNCONFIRMED_TTL};
use crate::{Clock, Level, Timestamp, chain::Chain, near::Entry};

/// What this process knows of the log. All times are those of the cache's own clock, which also advances
/// while the process is stopped.
#[derive(Debug, Default)]
pub(crate) struct Coherence {
    /// The log's last heartbeat, in milliseconds, or zero without one. The log had reported everything
    /// that happened before this moment.
    last_heartbeat: AtomicU64,
    /// The time of the log's last gap. The log does not cover copies that were read before this time.
    last_gap: AtomicU64,
    /// Whether the log has begun. Its beginning is reported as a gap, too.
    has_begun: AtomicBool,
    /// The time of the last gap but for the beginning. What causes a gap may set the versions of the authority back.
    order_lost: AtomicU64,
    /// Whether the log has covered any copy since its last gap.
    covers_copies: AtomicBool,
    gaps: AtomicU64,
    /// The last heartbeat also where a gap came after it, or the time since when one is due. It is zero where
    /// none is due.
    heard_at: AtomicU64,
    /// Whether the log gives no heartbeat, because no read needed it, and what wakes it.
    suspended: AtomicBool,
    wake: Mutex<Option<Arc<Notify>>>,
    /// The near hits at the last call of [`is_unused`](Self::is_unused).
    hits_seen: AtomicU64,
}

impl Coherence {
    /// Whether a copy is valid at `now`. Where the log's heartbeat is recent, the check is one load and
    /// one comparison.
    #[inline]
    pub(crate) fn covers<V>(&self, entry: &Entry<V>, now: Timestamp, max: MaxStaleness) -> bool {
        max.reaches(self.last_heartbeat.load(Ordering::Relaxed), now)
            || max.reaches(entry.proven_at().as_millis(), now)
    }

    /// Whether a copy is valid at `now` under another maximum staleness than the one for which it was
    /// admitted.
    pub(crate) fn proves<V>(&self, entry: &Entry<V>, now: Timestamp, max: MaxStaleness) -> bool {
        let is_followed = || max.reaches(self.last_heartbeat.load(Ordering::Relaxed), now);
        max.reaches(entry.proven_at().as_millis(), now) || (entry.covered_by_log() && is_followed())
    }

    /// Notes that an entry was as new as the source of truth at `proven_at`. The caller holds the lock
    /// of the key's slot in the flight table, and keeps the entry afterwards.
    /// `named` says whether the log can name the entry's key.
    pub(crate) fn admit<V>(
        &self,
        entry: &Entry<V>,
        proven_at: Timestamp,
        now: Timestamp,
        max: MaxStaleness,
        named: bool,
    ) {
        let last_heartbeat = self.last_heartbeat.load(Ordering::Acquire);
        let last_gap = self.last_gap.load(Ordering::Relaxed);
        let gapless = proven_at.as_millis() > last_gap || !enabled(Defence::BeforeGap);
        let covered = (max.reaches(last_heartbeat, now) && gapless && named) || !enabled(Defence::OwnEnd);
        entry.set_proof(proven_at, max.end(proven_at, covered), covered);
    }

    /// Whether the versions that the log reports tell what is newer than this entry: it was read after the log was
    /// lost last.
    pub(super) fn knows_order_of<V>(&self, entry: &Entry<V>) -> bool {
        entry.proven_at().as_millis() > self.order_lost.load(Ordering::Relaxed)
            || !enabled(Defence::LowerVersion)
    }

    /// Records a heartbeat: the log has reported everything that happened before `at`.
    pub(super) fn heartbeat(&self, at: Timestamp) {
        self.covers_copies.store(true, Ordering::Relaxed);
        // A reader that sees this heartbeat also sees the last gap.
        self.last_heartbeat.store(at.as_millis(), Ordering::Release);
        self.heard_at.store(at.as_millis(), Ordering::Relaxed);
    }

    /// Whether there was no near hit since the last call; `hits` is their number.
    pub(super) fn is_unused(&self, hits: u64) -> bool {
        self.hits_seen.swap(hits, Ordering::Relaxed) == hits
    }

    /// Records that a heartbeat of the log is due from now on.
    pub(super) fn expect_heartbeat(&self, now: Timestamp) {
        // An earlier time stays: since then no heartbeat came.
        let _ = self.heard_at.compare_exchange(0, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The number of gaps of the log so far.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// The time since the last heartbeat of the log, or `None` where none is due.
    pub(crate) fn log_age(&self, now: Timestamp) -> Option<Duration> {
        let heard_at = self.heard_at.load(Ordering::Relaxed);
        (heard_at > 0).then(|| now.since(Timestamp::from_millis(heard_at)))
    }

    /// Records that the log gives no heartbeat until it is woken. What it reported proves nothing that comes later.
    pub(super) fn suspend(&self, wake: &Arc<Notify>) {
        *self.wake.lock() = Some(Arc::clone(wake));
        self.heard_at.store(0, Ordering::Relaxed);
        self.last_heartbeat.store(0, Ordering::Relaxed);
        self.suspended.store(true, Ordering::Release);
    }

    /// Wakes the log if it was suspended: a read or a new near copy needs it. No near hit calls this, since a
    /// suspended log covers no copy.
    #[inline]
    pub(crate) fn wake_log(&self) {
        if self.suspended.load(Ordering::Relaxed) {
            self.end_suspension();
        }
    }

    #[cold]
    fn end_suspension(&self) {
        if self.suspended.swap(false, Ordering::AcqRel)
            && let Some(wake) = self.wake.lock().take()
        {
            wake.notify_one();
        }
    }

    /// Records a gap of the log. Returns whether the log had covered any copy before the gap.
    pub(super) fn lose(&self, now: Timestamp) -> bool {
        self.last_heartbeat.store(0, Ordering::Relaxed);
        self.last_gap.store(now.as_millis(), Ordering::Relaxed);
        self.gaps.fetch_add(1, Ordering::Relaxed);
        self.expect_heartbeat(now);
        if self.has_begun.swap(true, Ordering::Relaxed) {
            self.order_lost.store(now.as_millis(), Ordering::Relaxed);
        }
        self.covers_copies.swap(false, Ordering::Relaxed)
    }
}

/// How long near copies of a cache are valid after the log's last heartbeat. The result is
/// [`MaxStaleness::UNLIMITED`] where there is no log to follow, and nothing to prove.
pub(crate) fn max_staleness(
    chain: &Chain,
    level: Level,
    near_is_enabled: bool,
    clock: &Clock,
) -> MaxStaleness {
    match level {
        Level::Bounded(bound) => MaxStaleness::of(bound, clock),
        Level::Fenced | Level::Strong if near_is_enabled && chain.log().is_some() => {
            let day = Duration::from_secs(86_400);
            MaxStaleness::of(if enabled(Defence::Distrust) { UNCONFIRMED_TTL } else { day }, clock)
        }
        Level::Ttl | Level::Fenced | Level::Strong => MaxStaleness::UNLIMITED,
        // The last arm is for levels that a later version of the contract adds.
        _ => MaxStaleness::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use terrace_tier::{Deadlines, Version};

    const MAX: MaxStaleness = MaxStaleness::millis(1_000);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn entry() -> Entry<u8> {
        Entry::new(Some(1), Version::NONE, Deadlines::ttl(at(0), Duration::from_secs(60)))
    }

    #[test]
    fn the_log_covers_a_copy_while_its_heartbeat_is_recent() {
        let (coherence, entry) = (Coherence::default(), entry());
        coherence.heartbeat(at(10));
        coherence.admit(&entry, at(10), at(20), MAX, true);
        assert!(entry.is_valid(at(5_000)));
        assert!(coherence.covers(&entry, at(1_009), MAX));
        assert!(!coherence.covers(&entry, at(1_010), MAX));
        coherence.heartbeat(at(4_500));
        assert!(coherence.covers(&entry, at(5_000), MAX), "a heartbeat without a gap");
    }

    #[test]
    fn a_copy_that_no_log_covers_ends_with_its_own_proof() {
        let (coherence, entry) = (Coherence::default(), entry());
        coherence.admit(&entry, at(10), at(200), MAX, true);
        assert!(coherence.covers(&entry, at(1_009), MAX) && entry.is_valid(at(1_009)));
        coherence.heartbeat(at(1_010));
        assert!(!entry.is_valid(at(1_010)), "the log does not cover it");
        assert!(entry.is_fresh(at(1_010)), "its life is another matter");
    }

    #[test]
    fn a_longer_life_proves_nothing() {
        let (coherence, entry) = (Coherence::default(), entry());
        let longer = Deadlines::ttl(at(0), Duration::from_secs(3_600));
        coherence.admit(&entry, at(10), at(200), MAX, true);
        entry.set_deadlines(longer, MAX.end(entry.proven_at(), entry.covered_by_log()));
        coherence.heartbeat(at(1_010));
        assert!(entry.is_valid(at(1_009)) && !entry.is_valid(at(1_010)), "the log does not cover it");
        assert!(entry.is_fresh(at(3_599_999)));
        coherence.admit(&entry, at(1_010), at(1_020), MAX, true);
        entry.set_deadlines(longer, MAX.end(entry.proven_at(), entry.covered_by_log()));
        assert!(entry.is_valid(at(3_599_999)), "now it does");
    }

    #[test]
    fn the_log_does_not_cover_what_was_read_before_a_gap() {
        let (coherence, entry) = (Coherence::default(), entry());
        coherence.heartbeat(at(5));
        assert!(coherence.lose(at(10)));
        coherence.heartbeat(at(20));
        coherence.admit(&entry, at(10), at(30), MAX, true);
        assert!(!entry.is_valid(at(1_010)));
        assert!(coherence.lose(at(40)) && !coherence.lose(at(50)), "the log covers copies after a heartbeat");
    }

    #[test]
    fn a_clock_that_goes_back_proves_nothing() {
        let (coherence, entry) = (Coherence::default(), entry());
        coherence.heartbeat(at(500));
        coherence.admit(&entry, at(500), at(500), MAX, true);
        assert!(!coherence.covers(&entry, at(400), MAX));
    }

    #[test]
    fn a_suspended_log_covers_nothing_until_its_next_heartbeat() {
        let (coherence, entry) = (Coherence::default(), entry());
        coherence.heartbeat(at(10));
        coherence.admit(&entry, at(10), at(20), MAX, true);
        let wake = Arc::new(Notify::new());
        coherence.suspend(&wake);
        assert!(!coherence.covers(&entry, at(1_010), MAX));
        coherence.wake_log();
        assert!(wake.notified().now_or_never().is_some());
        coherence.wake_log();
        assert!(wake.notified().now_or_never().is_none(), "it is woken once");
        coherence.heartbeat(at(1_020));
        assert!(coherence.covers(&entry, at(1_030), MAX), "no gap lies between");
    }

    #[test]
    fn without_a_log_every_copy_is_valid() {
        let (coherence, entry) = (Coherence::default(), entry());
        coherence.admit(&entry, at(0), at(0), MaxStaleness::UNLIMITED, true);
        assert!(coherence.covers(&entry, at(50_000), MaxStaleness::UNLIMITED) && entry.is_valid(at(50_000)));
    }
}
