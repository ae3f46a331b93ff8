//! The health of the watched caches, for readiness probes.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use terrace_core::Stats;
use terrace_tier::Role;

use crate::Telemetry;

/// The age of the log's last report, and of the relay's last step, from which on a cache is degraded. Both are
/// below a second while their servers answer.
const LATE: Duration = Duration::from_secs(5);

/// How well a cache works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every tier is in use.
    Up,
    /// The cache answers, and more slowly: a cache tier is lost, the log was not heard for five seconds, or the
    /// relay of this process has carried no changes for five seconds.
    Degraded,
    /// The store is lost: reads of what no tier has, and writes, fail.
    Down,
}

/// The health of all watched caches.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The worst status of all caches.
    pub status: Status,
    /// The health of each cache by its name.
    pub caches: BTreeMap<String, CacheHealth>,
}

/// The health of one cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CacheHealth {
    /// The status of the cache.
    pub status: Status,
    /// The remote tiers by their names.
    pub tiers: BTreeMap<String, TierHealth>,
    /// The time since the log was heard, in seconds, where the cache follows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_age_seconds: Option<f64>,
    /// The time since the relay's last step, in seconds, where this process relays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_lag_seconds: Option<f64>,
}

/// The health of one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TierHealth {
    /// Whether the tier is lost, so that reads go past it.
    pub lost: bool,
    /// The number of keys and clears that the tier has not confirmed.
    pub pending_invalidations: u64,
}

impl Telemetry {
    /// The health of all watched caches, as this process knows it from its own calls.
    ///
    /// # Cost
    /// The call makes no round trip.
    ///
    /// ```
    /// use terrace_telemetry::{Status, Telemetry};
    ///
    /// let health = Telemetry::new().health();
    /// assert_eq!(health.status, Status::Up);
    /// assert_eq!(health.to_json(), r#"{"status":"up","caches":{}}"#);
    /// ```
    pub fn health(&self) -> Health {
        let caches: BTreeMap<_, _> =
            self.read().into_iter().map(|(name, stats)| (name.to_string(), of_cache(&stats))).collect();
        let status = caches.values().map(|cache| cache.status).max().unwrap_or(Status::Up);
        Health { status, caches }
    }
}

impl Health {
    /// The health as one line of JSON.
    pub fn to_json(&self) -> String {
        // Numbers, strings and maps with string keys are always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn of_cache(stats: &Stats) -> CacheHealth {
    let remote = || stats.tiers.iter().filter(|tier| tier.role.is_some());
    let is_lost = |role: Role| remote().any(|tier| tier.lost && tier.role == Some(role));
    let is_late = |age: Option<Duration>| age.is_some_and(|age| age > LATE);
    let status = if is_lost(Role::Store) {
        Status::Down
    } else if is_lost(Role::Cache) || is_late(stats.log_age) || is_late(stats.relay_age) {
        Status::Degraded
    } else {
        Status::Up
    };
    let tier = |tier: &terrace_core::TierStats| {
        let health = TierHealth { lost: tier.lost, pending_invalidations: tier.pending_invalidations };
        (tier.name.clone(), health)
    };
    CacheHealth {
        status,
        tiers: remote().map(tier).collect(),
        log_age_seconds: stats.log_age.map(|age| age.as_secs_f64()),
        relay_lag_seconds: stats.relay_age.map(|age| age.as_secs_f64()),
    }
}
