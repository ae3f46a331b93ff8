//! How the level of a handle has its reads answered.

use super::proof::{ANY, DISTRUST, NONE, Within};
use crate::{Clock, Level, Timestamp};

/// How the reads of one handle are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// By any copy within its life.
    Life,
    /// By near where the log vouches for it, by any copy of a tier.
    Heard(Within),
    /// By what was as new as the truth within so long before the call.
    Proven(Within),
    /// By the store alone, in a request sent after the call.
    Truth,
    /// Not at all: there is no truth to ask.
    Refused,
}

impl Reading {
    /// How handles of level `asked` read in a cache that was built at `built`.
    pub(super) fn of(built: Level, asked: Level, within: Within, stored: bool, clock: &Clock) -> Self {
        match (built, asked) {
            (Level::Ttl, Level::Ttl) | (Level::Fenced | Level::Strong, Level::Fenced) => Self::Heard(within),
            (Level::Ttl, _) => Self::Refused,
            (_, Level::Ttl) => Self::Life,
            (Level::Bounded(_), Level::Fenced) => Self::Heard(Within::of(DISTRUST, clock)),
            (Level::Bounded(_), Level::Bounded(bound)) => Self::Proven(Within::of(bound, clock)),
            // Nothing keeps the proofs that a bound would need.
            (_, Level::Bounded(_) | Level::Strong) if stored => Self::Truth,
            (_, Level::Bounded(_) | Level::Strong) => Self::Refused,
        }
    }

    /// From when on the proof of a copy must be that answers a call made now.
    pub(super) fn oldest(self, clock: &Clock) -> Timestamp {
        match self {
            Self::Proven(within) => within.oldest(clock.now()),
            Self::Truth => NONE,
            Self::Life | Self::Heard(_) | Self::Refused => ANY,
        }
    }
}
