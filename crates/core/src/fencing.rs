//! Fencing orders the fills and the writes of a key. With leases the tiers refuse a fill that arrives
//! after a change of the key. At level `Ttl` only this process orders its own fills and writes. The
//! level of a cache decides between leases and this order when the cache is built.

use std::sync::Arc;

use crate::{Deadlines, ErrorKind, Fence, Level, Op, Order, Stored, Token, write::UnfencedFills};

/// How the cache tiers of one cache order the fills and writes of a key.
pub(crate) enum Fencing {
    /// A fill carries the lease that its lookup took. The tier refuses the fill after any change of the
    /// key.
    Leases,
    /// At level `Ttl` a tier keeps the value that arrives last. A write at level `Ttl` waits for this
    /// process's own fills of the key.
    Unfenced(Arc<UnfencedFills>),
}

impl Fencing {
    pub(crate) fn of(level: Level) -> Self {
        match level {
            Level::Ttl => Self::Unfenced(Arc::default()),
            _ => Self::Leases,
        }
    }

    pub(crate) fn has_leases(&self) -> bool {
        matches!(self, Self::Leases)
    }

    pub(crate) fn unfenced(&self) -> Option<&Arc<UnfencedFills>> {
        match self {
            Self::Leases => None,
            Self::Unfenced(fills) => Some(fills),
        }
    }

    /// Whether a lookup asks a tier for a lease. `fills` says that a fill may follow the lookup, and
    /// `waits` that the caller may have to wait for another process's load.
    pub(crate) fn takes_lease(&self, fills: bool, waits: bool) -> bool {
        match self {
            Self::Leases => fills,
            Self::Unfenced(_) => waits,
        }
    }

    /// The fence that permits a fill after a miss, or `None` where the tier would refuse every fill.
    pub(crate) fn permit(&self, given: Fence) -> Option<Fence> {
        (given.token != Token::NONE || !self.has_leases()).then_some(given)
    }

    /// The operation that fills a tier with a copy.
    pub(crate) fn fill(
        &self,
        fence: Fence,
        stored: Stored,
        deadlines: Deadlines,
        tombstone_ttl: std::time::Duration,
    ) -> Op {
        let (version, body) = (stored.version, stored.body);
        match self {
            Self::Leases => Op::Fill { fence, version, deadlines, body },
            Self::Unfenced(_) => Op::Put { order: Order::Unfenced(version), deadlines, body, tombstone_ttl },
        }
    }

    /// Whether a fill that failed with this kind of error may still replace the value of a later write.
    pub(crate) fn may_arrive_late(&self, failure: ErrorKind) -> bool {
        !self.has_leases() && failure == ErrorKind::Unknown
    }
}
