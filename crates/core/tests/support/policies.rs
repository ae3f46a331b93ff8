//! Policies with fixed answers.

use std::time::Duration;

use terrace_core::policy::{
    Coalesce, Expiry, Freshness, Lifetime, OnStale, RenewalContext, StaleHit, Stampede, WriteContext,
};

/// Gives every entry this lifetime, also an absence.
pub(crate) struct FixedExpiry {
    fresh: Duration,
    stale: Duration,
}

impl FixedExpiry {
    pub(crate) fn fresh(fresh: Duration) -> Self {
        Self { fresh, stale: Duration::ZERO }
    }

    /// After its fresh time, an entry is stale for this time.
    pub(crate) fn stale(self, stale: Duration) -> Self {
        Self { stale, ..self }
    }
}

impl Expiry for FixedExpiry {
    fn lifetime(&self, context: &WriteContext) -> Lifetime {
        Lifetime { fresh: context.ttl.unwrap_or(self.fresh), stale: self.stale }
    }
}

/// Gives this answer to every stale hit.
pub(crate) struct OnStaleHit(pub(crate) OnStale);

impl Freshness for OnStaleHit {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        self.0
    }
}

/// Serves a stale entry only if its renewal failed.
pub(crate) struct ServeOnError;

impl Freshness for ServeOnError {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }

    fn on_error(&self, _hit: &StaleHit) -> bool {
        true
    }
}

/// Lets callers share loads in this way.
pub(crate) struct FixedStampede(pub(crate) Coalesce);

impl Stampede for FixedStampede {
    fn coalesce(&self) -> Coalesce {
        self.0
    }
}

/// Renews entries this long before their fresh time ends.
pub(crate) struct EarlyLead(pub(crate) Duration);

impl Freshness for EarlyLead {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }

    fn lead(&self, _renewal: &RenewalContext) -> Option<Duration> {
        Some(self.0)
    }
}

/// An idle life.
pub(crate) struct Idle(pub(crate) Duration);

impl Expiry for Idle {
    fn lifetime(&self, _context: &WriteContext) -> Lifetime {
        Lifetime::fresh(self.0)
    }

    fn idle(&self) -> Option<Duration> {
        Some(self.0)
    }
}
