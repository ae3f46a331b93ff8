//! The telemetry of terrace: metrics, health, and sums over all processes.
//!
//! [`Telemetry`] knows caches by weak handles, and reads their counters when a monitoring system asks. A cache
//! pushes nothing, so a near hit costs the same with telemetry and without it.
//!
//! | what | where |
//! |---|---|
//! | the text format of Prometheus | [`Telemetry::prometheus`] |
//! | a recorder of the crate `metrics` | `Telemetry::record`, feature `metrics` |
//! | a meter of OpenTelemetry | `Telemetry::instrument`, feature `opentelemetry` |
//! | JSON for readiness probes | [`Telemetry::health`] |
//! | sums over all processes | [`Fleet`] |
//! | the names of the metrics | [`METRICS`] |
//!
//! Spans of calls and loads come from `Builder::spans` in the core.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "metrics")]
mod facade;
mod fleet;
mod health;
#[cfg(feature = "opentelemetry")]
mod otel;
mod prometheus;
mod table;
mod watch;

pub use fleet::{CacheSums, Fleet, FleetSums, TierSums};
pub use health::{CacheHealth, Health, Status, TierHealth};
pub use table::{Kind, METRICS, Metric};
pub use watch::Telemetry;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
