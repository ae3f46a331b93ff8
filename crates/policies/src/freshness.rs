//! What a hit past its fresh time is worth.
//!
//! The expiry policy gives an entry its stale time; outside of it nothing is served, whatever the
//! windows here say.

use std::time::Duration;

use terrace_core::policy::{Freshness, OnStale, StaleHit};

/// Nothing stale is served: a hit past its fresh time is a miss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strict;

impl Freshness for Strict {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }
}

/// Serves a stale value while it is renewed behind the caller's back.
///
/// A reader that cannot renew it (no loader, no store) is served it all the same. Source: RFC 5861,
/// section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleWhileRevalidate(Duration);

impl StaleWhileRevalidate {
    /// For up to `window` past the fresh time; `Duration::MAX` is the whole stale time that the
    /// entry has.
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

/// Serves a stale value if renewing it has failed. Source: RFC 5861, section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleIfError(Duration);

impl StaleIfError {
    /// For up to `window` past the fresh time; `Duration::MAX` is the whole stale time that the
    /// entry has.
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

/// Both, each with its window: what [`Ttl`](crate::Ttl) says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) revalidate: StaleWhileRevalidate,
    pub(crate) error: StaleIfError,
}

impl Freshness for Windows {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        self.revalidate.on_stale(hit)
    }

    fn on_error(&self, hit: &StaleHit) -> bool {
        self.error.on_error(hit)
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
