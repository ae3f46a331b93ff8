//! How a handle has its reads answered: its level, applied to the level that the cache was built at.

use super::{
    coherence::Coherence,
    proof::{ANY_AGE, MaxStaleness, STORE_ONLY, UNCONFIRMED_TTL},
};
use crate::{Clock, Level, Timestamp, near::Entry};

/// How the reads of one handle are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// By any copy within its life.
    AnyCopy,
    /// By near where the log covers the copy, and by any copy of a tier.
    LogCovered(MaxStaleness),
    /// By a copy whose proof is at most this old.
    Proven(MaxStaleness),
    /// By the store alone, in a request sent after the call.
    StoreOnly,
    /// Not at all: the level asks the truth, and there is none to ask.
    Refused,
}

impl ReadMode {
    /// How handles of level `asked` read in a cache that was built at level `built`.
    pub(crate) fn of(
        built: Level,
        asked: Level,
        max_staleness: MaxStaleness,
        stored: bool,
        clock: &Clock,
    ) -> Self {
        match (built, asked) {
            (Level::Ttl, Level::Ttl) | (Level::Fenced | Level::Strong, Level::Fenced) => {
                Self::LogCovered(max_staleness)
            }
            (Level::Ttl, _) => Self::Refused,
            (_, Level::Ttl) => Self::AnyCopy,
            (Level::Bounded(_), Level::Fenced) => Self::LogCovered(MaxStaleness::of(UNCONFIRMED_TTL, clock)),
            (Level::Bounded(_), Level::Bounded(bound)) => Self::Proven(MaxStaleness::of(bound, clock)),
            // The cache keeps no proofs that a bound could be compared with.
            (_, Level::Bounded(_) | Level::Strong) if stored => Self::StoreOnly,
            // Also a level that a later version of the contract adds.
            _ => Self::Refused,
        }
    }

    /// The oldest proof that a call made now accepts.
    pub(crate) fn oldest_proof(self, clock: &Clock) -> Timestamp {
        match self {
            Self::Proven(max_staleness) => max_staleness.oldest_proof(clock.now()),
            Self::StoreOnly => STORE_ONLY,
            Self::AnyCopy | Self::LogCovered(_) | Self::Refused => ANY_AGE,
        }
    }

    /// Whether near may answer with this entry through a handle of another level than the cache's own.
    #[cold]
    pub(crate) fn accepts_near<V>(self, entry: &Entry<V>, now: Timestamp, coherence: &Coherence) -> bool {
        entry.is_fresh(now)
            && match self {
                Self::AnyCopy => true,
                Self::LogCovered(max_staleness) | Self::Proven(max_staleness) => {
                    coherence.proves(entry, now, max_staleness)
                }
                Self::StoreOnly | Self::Refused => false,
            }
    }
}
