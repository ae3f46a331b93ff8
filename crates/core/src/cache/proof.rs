//! The moments by which answers are judged: when a copy was as new as the truth, and how long that is
//! enough.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Clock, Timestamp};

/// What may answer, whatever its age.
pub(crate) const ANY: Timestamp = Timestamp::from_millis(0);

/// What no copy can be: as new as that.
pub(crate) const NONE: Timestamp = Timestamp::NEVER;

/// How long a near tier keeps what no authority could confirm.
pub(crate) const DISTRUST: Duration = Duration::from_secs(1);

/// What a call asks of an answer that another caller's trip or load brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadBound {
    /// When the call was made: what was over by then is no answer to it.
    pub(super) at: Timestamp,
    /// From when on the proof of an answer must be.
    pub(super) oldest: Timestamp,
}

/// How long copies are good after the log was heard, or after their own reading: in milliseconds,
/// less the lag of the clock that hits are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxStaleness(u64);

impl MaxStaleness {
    /// There is no log to hear.
    pub(crate) const FOR_EVER: Self = Self(u64::MAX);
    /// No copy is good.
    pub(crate) const NEVER: Self = Self(0);

    /// So many milliseconds, for tests of what stands on it.
    #[cfg(test)]
    pub(super) const fn millis(millis: u64) -> Self {
        Self(millis)
    }

    pub(crate) fn of(bound: Duration, clock: &Clock) -> Self {
        let millis = bound.saturating_sub(clock.granularity()).as_millis();
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The first moment that is within it before `now`.
    pub(crate) fn oldest(self, now: Timestamp) -> Timestamp {
        match self {
            Self::NEVER => NONE,
            Self(millis) => Timestamp::from_millis(now.as_millis().saturating_sub(millis - 1)),
        }
    }

    /// Until when a proof of `proven_at` is enough: for ever, where the copy `rests` on the log.
    pub(crate) fn end(self, proven_at: Timestamp, rests: bool) -> Timestamp {
        match rests {
            true => Timestamp::NEVER,
            false => Timestamp::from_millis(proven_at.as_millis().saturating_add(self.0)),
        }
    }

    /// Whether `at` was within it before `now`. A clock that went back behind `at` says no.
    #[inline]
    pub(super) fn reaches(self, at: u64, now: Timestamp) -> bool {
        now.as_millis().wrapping_sub(at) < self.0
    }
}

/// A moment on a cache's own clock; earlier rather than later.
pub(super) fn dated(clock: &Clock, at: Instant) -> Timestamp {
    let age = Instant::now().saturating_duration_since(at).as_micros().div_ceil(1000);
    let age = u64::try_from(age).unwrap_or(u64::MAX);
    Timestamp::from_millis(clock.now().as_millis().saturating_sub(age))
}
