//! The level and the stampede policy of a stack's caches, as serde reads them.

use std::time::Duration;

use serde::Deserialize;
use terrace_core::{
    Error, Level, Result,
    policy::{Coalesce, Stampede},
};

/// How consistent the caches of a stack are: the name of a [`Level`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LevelConfig {
    /// `"ttl"`: [`Level::Ttl`], for copies only.
    Ttl,
    /// `"fenced"`: [`Level::Fenced`].
    #[default]
    Fenced,
    /// `"bounded"`: [`Level::Bounded`] with the bound of [`Config::bound_ms`](super::Config::bound_ms).
    Bounded,
    /// `"strong"`: [`Level::Strong`], for records only.
    Strong,
}

/// Which callers share one load of a key: the name of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampedeConfig {
    /// `"unshared"`: [`NoCoalescing`](terrace_policies::NoCoalescing).
    #[serde(rename = "unshared")]
    NoCoalescing,
    /// `"single_flight"`: [`SingleFlight`](terrace_policies::SingleFlight).
    #[default]
    SingleFlight,
    /// `"lease"`: [`Lease`](terrace_policies::Lease).
    Lease,
    /// `"lease_or_stale"`: [`LeaseOrStale`](terrace_policies::LeaseOrStale).
    LeaseOrStale,
}

impl Stampede for StampedeConfig {
    fn coalesce(&self) -> Coalesce {
        match self {
            Self::NoCoalescing => terrace_policies::NoCoalescing.coalesce(),
            Self::SingleFlight => terrace_policies::SingleFlight.coalesce(),
            Self::Lease => terrace_policies::Lease.coalesce(),
            Self::LeaseOrStale => terrace_policies::LeaseOrStale.coalesce(),
        }
    }
}

impl LevelConfig {
    /// The level with its bound. A cache that cannot keep the level is refused when it is built.
    pub(super) fn level(self, bound_ms: Option<u64>) -> Result<Level> {
        match (self, bound_ms) {
            (Self::Bounded, Some(bound_ms)) => Ok(Level::Bounded(Duration::from_millis(bound_ms))),
            (Self::Bounded, None) => Err(Error::config(
                "level = \"bounded\" needs bound_ms: for how many milliseconds a value may have been superseded, \
                 100 or more",
            )),
            (_, Some(_)) => Err(Error::config(
                "bound_ms belongs to level = \"bounded\": set that level, or leave the bound out",
            )),
            (Self::Ttl, None) => Ok(Level::Ttl),
            (Self::Fenced, None) => Ok(Level::Fenced),
            (Self::Strong, None) => Ok(Level::Strong),
        }
    }
}
