//! What keeps a late fill from replacing something newer: the tiers' leases, or nothing but the order
//! within this process (level `Ttl`). The level decides it once, when the cache is built.

use std::sync::Arc;

use crate::{Deadlines, ErrorKind, Fence, Level, Op, Order, Stored, Token, write::UnfencedFills};

/// How the cache tiers of one cache order fills and writes of a key.
pub(crate) enum Fencing {
    /// A fill shows the lease that its lookup took; the tier refuses it after any change.
    Leases,
    /// Level `Ttl`: a tier takes whatever arrives last. Writes of this process wait for its own fills.
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

    /// Whether a lookup asks a tier for a lease. `fills` says that a fill may follow, `waits` that this
    /// caller may have to wait for another process's load.
    pub(crate) fn takes_lease(&self, fills: bool, waits: bool) -> bool {
        match self {
            Self::Leases => fills,
            Self::Unfenced(_) => waits,
        }
    }

    /// The fence that permits a fill after a miss; `None` where the tier would refuse every fill.
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

    /// Whether a fill that failed in this way may still land on top of a later write.
    pub(crate) fn may_land_late(&self, failure: ErrorKind) -> bool {
        !self.has_leases() && failure == ErrorKind::Unknown
    }
}
