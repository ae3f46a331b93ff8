//! Whether copies in the near tier may still be believed: what the log of a shared tier says of them.
//!
//! A copy rests on the log, if that was heard when the copy was kept and lately, or on its own
//! reading for as long. A log that is not heard so leaves a near tier of short lives.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use super::proof::{DISTRUST, MaxStaleness};
use crate::{
    Clock, Entry, Level, Timestamp,
    chain::Chain,
    defence::{Defence, enabled},
};

/// What is known of the log, on the cache's own clock: that one goes on while a process is stopped.
#[derive(Debug, Default)]
pub(crate) struct Coherence {
    /// All that had happened before was told; in milliseconds, zero for never.
    heard_at: AtomicU64,
    /// When it last had a gap: what was read before does not rest on it.
    since: AtomicU64,
    /// Whether a copy may rest on it since then.
    rests: AtomicBool,
}

impl Coherence {
    /// Whether a copy is good at `now`: one load and one compare where the log is heard.
    #[inline]
    pub(crate) fn covers<V>(&self, entry: &Entry<V>, now: Timestamp, within: MaxStaleness) -> bool {
        within.reaches(self.heard_at.load(Ordering::Relaxed), now)
            || within.reaches(entry.proven_at().as_millis(), now)
    }

    /// Whether a copy is good at `now` within another time than the one that it was admitted for.
    pub(crate) fn proves<V>(&self, entry: &Entry<V>, now: Timestamp, within: MaxStaleness) -> bool {
        let heard = || within.reaches(self.heard_at.load(Ordering::Relaxed), now);
        within.reaches(entry.proven_at().as_millis(), now) || (entry.covered_by_log() && heard())
    }

    /// Notes that an entry was as new as the truth at `proven_at`; one that the log does not vouch
    /// for lives on that alone. To be called under the key's slot, before the entry is kept.
    pub(crate) fn admit<V>(
        &self,
        entry: &Entry<V>,
        proven_at: Timestamp,
        now: Timestamp,
        within: MaxStaleness,
    ) {
        let heard_at = self.heard_at.load(Ordering::Acquire);
        let since = self.since.load(Ordering::Relaxed);
        let gapless = proven_at.as_millis() > since || !enabled(Defence::BeforeGap);
        let rests = (within.reaches(heard_at, now) && gapless) || !enabled(Defence::OwnEnd);
        entry.set_proof(proven_at, within.end(proven_at, rests), rests);
    }

    pub(super) fn hear(&self, at: Timestamp) {
        self.rests.store(true, Ordering::Relaxed);
        // Who sees this sees since when the log is without a gap.
        self.heard_at.store(at.as_millis(), Ordering::Release);
    }

    /// The log has a gap; whether copies rested on it.
    pub(super) fn lose(&self, now: Timestamp) -> bool {
        self.heard_at.store(0, Ordering::Relaxed);
        self.since.store(now.as_millis(), Ordering::Relaxed);
        self.rests.swap(false, Ordering::Relaxed)
    }
}

/// How long near copies of a cache are good without a word from its log; [`MaxStaleness::FOR_EVER`]
/// where there is no log to follow, and nothing to prove.
pub(crate) fn within(chain: &Chain, level: Level, near_is_enabled: bool, clock: &Clock) -> MaxStaleness {
    match level {
        Level::Bounded(bound) => MaxStaleness::of(bound, clock),
        Level::Fenced | Level::Strong if near_is_enabled && chain.log().is_some() => {
            let day = Duration::from_secs(86_400);
            MaxStaleness::of(if enabled(Defence::Distrust) { DISTRUST } else { day }, clock)
        }
        Level::Ttl | Level::Fenced | Level::Strong => MaxStaleness::FOR_EVER,
        // A level of a later version.
        _ => MaxStaleness::NEVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deadlines, Version};

    const WITHIN: MaxStaleness = MaxStaleness::millis(1_000);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn entry() -> Entry<u8> {
        Entry::new(Some(1), Version::NONE, Deadlines::ttl(at(0), Duration::from_secs(60)))
    }

    #[test]
    fn a_copy_rests_on_the_log_while_that_is_heard() {
        let (trust, entry) = (Coherence::default(), entry());
        trust.hear(at(10));
        trust.admit(&entry, at(10), at(20), WITHIN);
        assert!(entry.is_valid(at(5_000)));
        assert!(trust.covers(&entry, at(1_009), WITHIN));
        assert!(!trust.covers(&entry, at(1_010), WITHIN));
        trust.hear(at(4_500));
        assert!(trust.covers(&entry, at(5_000), WITHIN), "heard again without a gap");
    }

    #[test]
    fn a_copy_that_no_log_vouches_for_ends_with_its_own_proof() {
        let (trust, entry) = (Coherence::default(), entry());
        trust.admit(&entry, at(10), at(200), WITHIN);
        assert!(trust.covers(&entry, at(1_009), WITHIN) && entry.is_valid(at(1_009)));
        trust.hear(at(1_010));
        assert!(!entry.is_valid(at(1_010)), "the log does not know of it");
        assert!(entry.is_fresh(at(1_010)), "its life is another matter");
    }

    #[test]
    fn a_longer_life_proves_nothing() {
        let (trust, entry) = (Coherence::default(), entry());
        let longer = Deadlines::ttl(at(0), Duration::from_secs(3_600));
        trust.admit(&entry, at(10), at(200), WITHIN);
        entry.set_deadlines(longer, WITHIN.end(entry.proven_at(), entry.covered_by_log()));
        trust.hear(at(1_010));
        assert!(entry.is_valid(at(1_009)) && !entry.is_valid(at(1_010)), "the log does not know of it");
        assert!(entry.is_fresh(at(3_599_999)));
        trust.admit(&entry, at(1_010), at(1_020), WITHIN);
        entry.set_deadlines(longer, WITHIN.end(entry.proven_at(), entry.covered_by_log()));
        assert!(entry.is_valid(at(3_599_999)), "now it does");
    }

    #[test]
    fn what_was_read_before_a_gap_does_not_rest_on_the_log() {
        let (trust, entry) = (Coherence::default(), entry());
        trust.hear(at(5));
        assert!(trust.lose(at(10)));
        trust.hear(at(20));
        trust.admit(&entry, at(10), at(30), WITHIN);
        assert!(!entry.is_valid(at(1_010)));
        assert!(trust.lose(at(40)) && !trust.lose(at(50)), "copies rest on a log that was heard");
    }

    #[test]
    fn a_clock_that_goes_back_proves_nothing() {
        let (trust, entry) = (Coherence::default(), entry());
        trust.hear(at(500));
        trust.admit(&entry, at(500), at(500), WITHIN);
        assert!(!trust.covers(&entry, at(400), WITHIN));
    }

    #[test]
    fn without_a_log_every_copy_is_good() {
        let (trust, entry) = (Coherence::default(), entry());
        trust.admit(&entry, at(0), at(0), MaxStaleness::FOR_EVER);
        assert!(trust.covers(&entry, at(50_000), MaxStaleness::FOR_EVER) && entry.is_valid(at(50_000)));
    }
}
