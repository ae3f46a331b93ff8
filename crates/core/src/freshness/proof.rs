//! A proof says until when a copy is known to have been as new as the source of truth.
//!
//! The *source of truth* is the store, or in a cache without a store the origin behind the loader. A
//! copy's proof is a moment at which the copy was as new as the source of truth. A read compares the
//! proof of a copy with the oldest proof that the read accepts.

use std::{sync::Arc, time::Duration};

use super::watermark::WatermarkTracker;
use crate::{Clock, Stored, Timestamp};

/// The bound of a read that accepts every copy within its life.
pub(crate) const ANY_AGE: Timestamp = Timestamp::from_millis(0);

/// A bound that no copy can meet: only the store may answer.
pub(crate) const STORE_ONLY: Timestamp = Timestamp::NEVER;

/// How long a near tier keeps a value that no authority could confirm.
pub(crate) const UNCONFIRMED_TTL: Duration = Duration::from_secs(1);

/// The smallest bound of level `Bounded`. The steps that prove a copy take about 100 ms.
pub(crate) const LEAST_BOUND: Duration = Duration::from_millis(100);

/// What proves to a cache of level `Bounded` that a copy was as new as the source of truth.
pub(crate) enum ProofSource {
    /// The cache has another level than `Bounded`, so nothing is to be proven.
    None,
    /// Only the moment of the read from the store proves a copy: no log reports changes of the source of
    /// truth.
    ReadTime,
    /// The log of the source of truth proves copies, and the near tier follows this log. The cache has
    /// no shared copies.
    Log,
    /// The watermark of a relay proves copies.
    Watermarks(Arc<WatermarkTracker>),
    /// The moment at which a copy's load or put began proves the copy: no copy lives longer than the
    /// bound.
    Age,
}

/// What a read requires of an answer that another caller's lookup or load produced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadBound {
    /// The time of the call. A value whose life had ended before the call does not answer the call.
    pub(crate) called_at: Timestamp,
    /// The oldest proof that the call accepts.
    pub(crate) oldest_proof: Timestamp,
}

/// How long a proof is valid, in milliseconds. The duration is already reduced by the lag of the clock
/// that judges near hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxStaleness(u64);

impl MaxStaleness {
    /// Proofs do not expire, because there is no log to follow.
    pub(crate) const UNLIMITED: Self = Self(u64::MAX);
    /// No proof is valid.
    pub(crate) const ZERO: Self = Self(0);

    #[cfg(test)]
    pub(super) const fn millis(millis: u64) -> Self {
        Self(millis)
    }

    pub(crate) fn of(bound: Duration, clock: &Clock) -> Self {
        let millis = bound.saturating_sub(clock.granularity()).as_millis();
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The oldest proof that is valid at `now`.
    pub(crate) fn oldest_proof(self, now: Timestamp) -> Timestamp {
        match self {
            Self::ZERO => STORE_ONLY,
            Self(millis) => Timestamp::from_millis(now.as_millis().saturating_sub(millis - 1)),
        }
    }

    /// When a proof of the moment `proven_at` expires, or never where the log covers the copy.
    pub(crate) fn end(self, proven_at: Timestamp, covered_by_log: bool) -> Timestamp {
        match covered_by_log {
            true => Timestamp::NEVER,
            false => Timestamp::from_millis(proven_at.as_millis().saturating_add(self.0)),
        }
    }

    /// Whether a proof of the moment `at` is valid at `now`. If the clock has gone back behind `at`, the
    /// proof is not valid.
    #[inline]
    pub(super) fn reaches(self, at: u64, now: Timestamp) -> bool {
        now.as_millis().wrapping_sub(at) < self.0
    }
}

impl ProofSource {
    /// The proof of a copy that a cache tier gave to a lookup. `began` is the time at which the lookup
    /// began.
    pub(crate) fn of_copy(&self, stored: &Stored, began: Timestamp, clock: &Clock) -> Timestamp {
        let now = clock.now();
        match self {
            Self::None => began,
            Self::Watermarks(tracker) => {
                let advanced = stored.watermark.and_then(|version| tracker.advanced_at(version, now));
                advanced.unwrap_or(ANY_AGE)
            }
            // The writer's clock may be ahead of this host's.
            Self::Age if stored.deadlines.written <= now => stored.deadlines.written,
            Self::Age | Self::Log | Self::ReadTime => ANY_AGE,
        }
    }

    /// The proof of a value that a load has just returned. `began` is the time at which the load began.
    /// At level `Bounded` the proof is `began`, because the origin's answer may be as old as the
    /// question.
    pub(crate) fn of_load(&self, began: Timestamp, clock: &Clock) -> Timestamp {
        match self {
            Self::None => clock.now(),
            _ => began,
        }
    }
}
