//! Whether a hit past its fresh time is served.
//!
//! The expiry policy sets the stale time of an entry. After the stale time nothing is served, even if
//! a window here is longer.

use std::time::Duration;

use terrace_core::policy::{Freshness, OnStale, RenewalContext, StaleHit};

use crate::early::Early;

/// Serves nothing stale: a hit past its fresh time is a miss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strict;

impl Freshness for Strict {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }
}

/// Serves a stale value while a task renews it in the background. A renewal that fails is tried again after
/// a pause of 1 to 24 s.
///
/// A reader that cannot renew the value (it has no loader and no store) gets the stale value too.
///
/// Source: RFC 5861, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleWhileRevalidate(Duration);

impl StaleWhileRevalidate {
    /// Serves for up to `window` past the fresh time; `Duration::MAX` is the whole stale time of the
    /// entry.
    pub const fn within(window: Duration) -> Self {
        Self(window)
    }
}

impl Freshness for StaleWhileRevalidate {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        match (is_within(self.0, hit), hit.renewable) {
            (false, _) => OnStale::Miss,
            (true, true) => OnStale::ServeAndRefresh,
            (true, false) => OnStale::Serve,
        }
    }
}

/// Serves a stale value if renewing it has failed, or takes longer than the soft timeout
/// ([`Builder::soft_timeout`](terrace_core::Builder::soft_timeout)).
///
/// One reader tries to renew the value after each pause, which lasts 1 to 24 s; all others get the stale
/// value at once.
///
/// Source: RFC 5861, section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleIfError(Duration);

impl StaleIfError {
    /// Serves for up to `window` past the fresh time; `Duration::MAX` is the whole stale time of the
    /// entry.
    pub const fn within(window: Duration) -> Self {
        Self(window)
    }
}

impl Freshness for StaleIfError {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }

    fn on_error(&self, hit: &StaleHit) -> bool {
        is_within(self.0, hit)
    }
}

/// All freshness policies, each with its window, as [`Ttl`](crate::Ttl) sets them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) revalidate: StaleWhileRevalidate,
    pub(crate) error: StaleIfError,
    pub(crate) early: Early,
}

impl Freshness for Windows {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        self.revalidate.on_stale(hit)
    }

    fn on_error(&self, hit: &StaleHit) -> bool {
        self.error.on_error(hit)
    }

    fn lead(&self, renewal: &RenewalContext) -> Option<Duration> {
        self.early.lead(renewal)
    }
}

fn is_within(window: Duration, hit: &StaleHit) -> bool {
    hit.stale_for < window && !hit.remaining.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(secs: u64) -> StaleHit {
        StaleHit::new(Duration::from_secs(secs), Duration::from_secs(60), true)
    }

    #[test]
    fn strict_serves_nothing_stale() {
        assert_eq!(Strict.on_stale(&after(0)), OnStale::Miss);
        assert!(!Strict.on_error(&after(0)));
    }

    #[test]
    fn stale_while_revalidate_serves_within_its_window_and_refreshes_where_that_is_possible() {
        let policy = StaleWhileRevalidate::within(Duration::from_secs(10));
        let lone = StaleHit::new(Duration::from_secs(9), Duration::from_secs(1), false);
        assert_eq!(policy.on_stale(&after(9)), OnStale::ServeAndRefresh);
        assert_eq!(policy.on_stale(&lone), OnStale::Serve);
        assert_eq!(policy.on_stale(&after(10)), OnStale::Miss);
        assert!(!policy.on_error(&after(9)));
    }

    #[test]
    fn stale_if_error_serves_after_an_error_alone() {
        let policy = StaleIfError::within(Duration::from_secs(10));
        assert_eq!(policy.on_stale(&after(1)), OnStale::Miss);
        assert!(policy.on_error(&after(9)));
        assert!(!policy.on_error(&after(10)));
    }
}
