//! The policies of terrace as values: when entries expire, when a stale value is served, which values
//! a tier keeps, which tiers a put writes to, and how callers share loads.
//!
//! Each value implements one trait of `terrace_core::policy`. An application may implement the traits
//! itself; `terrace_conformance::policy` tests such policies.
//!
//! | policy | values |
//! |---|---|
//! | expiry | [`Ttl`], [`Forever`] |
//! | freshness | [`Strict`], [`StaleWhileRevalidate`], [`StaleIfError`] |
//! | admission | [`AdmitAll`], [`SizeLimit`] |
//! | write | [`WriteThrough`], [`WriteAround`], [`WriteBehind`], [`CacheAside`] |
//! | stampede | [`SingleFlight`], [`NoCoalescing`], [`Lease`], [`LeaseOrStale`] |
//!
//! Read-through is not a policy: `Builder::loader` binds a loader to the cache.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod expiry;
mod freshness;
mod stampede;
mod write;
mod write_behind;

pub use admission::{AdmitAll, SizeLimit};
pub use expiry::{Forever, Ttl};
pub use freshness::{StaleIfError, StaleWhileRevalidate, Strict};
pub use stampede::{Lease, LeaseOrStale, NoCoalescing, SingleFlight};
pub use terrace_core::policy::{Backlog, FullJitter, WhenFull};
pub use write::{CacheAside, WriteAround, WriteThrough};
pub use write_behind::WriteBehind;
