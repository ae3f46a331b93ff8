//! How the level of a handle has its reads answered.

use super::proof::{ANY, DISTRUST, MaxStaleness, NONE};
use crate::{Clock, Level, Timestamp};

/// How the reads of one handle are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// By any copy within its life.
    Life,
    /// By near where the log vouches for it, by any copy of a tier.
    Heard(MaxStaleness),
    /// By what was as new as the truth within so long before the call.
    Proven(MaxStaleness),
    /// By the store alone, in a request sent after the call.
    Truth,
    /// Not at all: there is no truth to ask.
    Refused,
}

impl ReadMode {
    /// How handles of level `asked` read in a cache that was built at `built`.
    pub(super) fn of(built: Level, asked: Level, within: MaxStaleness, stored: bool, clock: &Clock) -> Self {
        match (built, asked) {
            (Level::Ttl, Level::Ttl) | (Level::Fenced | Level::Strong, Level::Fenced) => Self::Heard(within),
            (Level::Ttl, _) => Self::Refused,
            (_, Level::Ttl) => Self::Life,
            (Level::Bounded(_), Level::Fenced) => Self::Heard(MaxStaleness::of(DISTRUST, clock)),
            (Level::Bounded(_), Level::Bounded(bound)) => Self::Proven(MaxStaleness::of(bound, clock)),
            // Nothing keeps the proofs that a bound would need.
            (_, Level::Bounded(_) | Level::Strong) if stored => Self::Truth,
            // A level of a later version, too.
            _ => Self::Refused,
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
