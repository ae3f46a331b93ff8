//! The level of a stack's caches and how they share loads, as TOML and serde see them.

use std::time::Duration;

use serde::Deserialize;
use terrace_core::{
    Error, Level, Result,
    policy::{Coalesce, Stampede},
};

/// How consistent the caches of a stack are: a [`Level`] by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LevelConfig {
    /// [`Level::Ttl`]; for copies alone.
    Ttl,
    /// [`Level::Fenced`].
    #[default]
    Fenced,
    /// [`Level::Bounded`], by the bound beside it.
    Bounded,
    /// [`Level::Strong`]; for records alone.
    Strong,
}

/// Who shares one load of a key: a policy by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampedeConfig {
    /// [`NoCoalescing`](terrace_policies::NoCoalescing).
    NoCoalescing,
    /// [`SingleFlight`](terrace_policies::SingleFlight).
    #[default]
    SingleFlight,
    /// [`Lease`](terrace_policies::Lease).
    Lease,
    /// [`LeaseOrStale`](terrace_policies::LeaseOrStale).
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
    /// The level, with the bound that is set beside it. What a cache cannot keep of it, its build refuses.
    pub(super) fn level(self, bound_ms: Option<u64>) -> Result<Level> {
        match (self, bound_ms) {
            (Self::Bounded, Some(bound_ms)) => Ok(Level::Bounded(Duration::from_millis(bound_ms))),
            (Self::Bounded, None) => Err(Error::config(
                "level = \"bounded\" needs bound_ms: how long a value may have been superseded, 100 or more",
            )),
            (_, Some(_)) => Err(Error::config(
                "bound_ms is for level = \"bounded\": set that level, or leave the bound out",
            )),
            (Self::Ttl, None) => Ok(Level::Ttl),
            (Self::Fenced, None) => Ok(Level::Fenced),
            (Self::Strong, None) => Ok(Level::Strong),
        }
    }
}
