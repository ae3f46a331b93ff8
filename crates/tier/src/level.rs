//! How consistent a cache is.

use std::time::Duration;

/// How consistent a cache is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// A value may be as old as its time to live. Processes do not fence each other's fills, and a miss
    /// in Redis takes one round trip less. For immutable data (embeddings, content hashes, recorded
    /// answers).
    Ttl,
    /// A fill never overwrites or brings back anything newer, in any shared tier, whichever process
    /// wrote it. Near copies in other processes are dropped as soon as the invalidation log reports the
    /// change. While the log is silent, a near copy is trusted for at most a second.
    #[default]
    Fenced,
    /// No call returns a value that was superseded more than this long before the call, whatever
    /// crashes, pauses, loses its connection or is restored from a backup. A copy that is not proven to
    /// be so recent is skipped, and the next farther tier is read.
    Bounded(Duration),
    /// Linearizable for each key: every read asks the store, in a request sent after the call began.
    Strong,
}

impl Level {
    /// Whether fills and writes are fenced across processes and reported in the log. True at every level
    /// except [`Ttl`](Self::Ttl).
    pub const fn is_fenced(self) -> bool {
        !matches!(self, Self::Ttl)
    }

    /// The level's name, as tiers keep it: `ttl`, `fenced`, `bounded` (for every bound) or `strong`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Fenced => "fenced",
            Self::Bounded(_) => "bounded",
            Self::Strong => "strong",
        }
    }
}
