//! Policies that do as they are told.

use std::time::Duration;

use terrace_core::policy::{
    Coalesce, Expiry, Freshness, Lifetime, OnStale, StaleHit, Stampede, WriteContext,
};

/// Every entry has this life, absences too.
pub(crate) struct Lives {
    fresh: Duration,
    stale: Duration,
}

impl Lives {
    pub(crate) fn fresh(fresh: Duration) -> Self {
        Self { fresh, stale: Duration::ZERO }
    }

    /// And so long again it is stale.
    pub(crate) fn stale(self, stale: Duration) -> Self {
        Self { stale, ..self }
    }
}

impl Expiry for Lives {
    fn lifetime(&self, writing: &WriteContext) -> Lifetime {
        Lifetime { fresh: writing.ttl.unwrap_or(self.fresh), stale: self.stale }
    }
}

/// What is done with an entry past its time.
pub(crate) struct Stale(pub(crate) OnStale);

impl Freshness for Stale {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        self.0
    }
}

/// Serves what it has where renewing it failed.
pub(crate) struct OnError;

impl Freshness for OnError {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }

    fn on_error(&self, _hit: &StaleHit) -> bool {
        true
    }
}

/// How loads are shared.
pub(crate) struct Share(pub(crate) Coalesce);

impl Stampede for Share {
    fn coalesce(&self) -> Coalesce {
        self.0
    }
}
