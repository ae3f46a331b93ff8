//! A read mode says how the reads of a handle are answered. A mode follows from the handle's level and
//! from the level that the cache was built at.

use super::{
    coherence::Coherence,
    proof::{ANY_AGE, MaxStaleness, STORE_ONLY, UNCONFIRMED_TTL},
};
use crate::{Clock, Level, Timestamp, near::Entry};

/// How the reads of one handle are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// Any copy within its life answers.
    AnyCopy,
    /// A near copy answers if the log covers it, and any copy of a cache tier answers.
    LogCovered(MaxStaleness),
    /// A copy answers if its proof is at most this old.
    Proven(MaxStaleness),
    /// The store alone answers, in a request that is sent after the call.
    StoreOnly,
    /// Reads are refused: the level needs the store, and the cache has none.
    Refused,
}

impl ReadMode {
    /// The read mode of a handle of level `requested` in a cache that was built at level `built`.
    pub(crate) fn of(
        built: Level,
        requested: Level,
        max_staleness: MaxStaleness,
        stored: bool,
        clock: &Clock,
    ) -> Self {
        match (built, requested) {
            (Level::Ttl, Level::Ttl) | (Level::Fenced | Level::Strong, Level::Fenced) => {
                Self::LogCovered(max_staleness)
            }
            (Level::Ttl, _) => Self::Refused,
            (_, Level::Ttl) => Self::AnyCopy,
            (Level::Bounded(_), Level::Fenced) => Self::LogCovered(MaxStaleness::of(UNCONFIRMED_TTL, clock)),
            (Level::Bounded(_), Level::Bounded(bound)) => Self::Proven(MaxStaleness::of(bound, clock)),
            // The cache keeps no proofs that a bound could be compared with.
            (_, Level::Bounded(_) | Level::Strong) if stored => Self::StoreOnly,
            // The last arm is also for levels that a later version of the contract adds.
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

    /// Whether the near tier may answer with this entry through a handle of another level than the
    /// cache's own.
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
