//! The policies of simulated caches.

use std::time::Duration;

use terrace_core::policy::{
    Admission, AdmitContext, Coalesce, Expiry, Freshness, Lifetime, OnStale, StaleHit, Stampede, WriteContext,
};

use crate::plan::{Stack, Staleness};

/// The expiry policy of a stack.
pub(crate) struct Lives(pub(crate) Stack);

impl Expiry for Lives {
    fn lifetime(&self, writing: &WriteContext) -> Lifetime {
        let default = if writing.negative { self.0.negative } else { self.0.life };
        let stale = if writing.negative { Duration::ZERO } else { self.0.stale };
        Lifetime { fresh: writing.ttl.unwrap_or(default), stale }
    }
}

impl Freshness for Staleness {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        match (self.while_revalidate, hit.renewable) {
            (false, _) => OnStale::Miss,
            (true, true) => OnStale::ServeAndRefresh,
            (true, false) => OnStale::Serve,
        }
    }

    fn on_error(&self, _hit: &StaleHit) -> bool {
        self.if_error
    }
}

/// The stampede policy of a stack.
pub(crate) struct Shares(pub(crate) Coalesce);

impl Stampede for Shares {
    fn coalesce(&self) -> Coalesce {
        self.0
    }
}

/// An admission policy that keeps a quarter of all values out of a tier, by chance.
pub(crate) struct Picky;

impl Admission for Picky {
    fn admits(&self, _keeping: &AdmitContext<'_>) -> bool {
        fastrand::u8(..4) > 0
    }
}
