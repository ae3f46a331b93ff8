//! Policies of terrace as values: when entries expire, what a stale hit is worth, what a tier
//! keeps, which way a put takes, how loads are shared.
//!
//! Each answers one trait of `terrace_core::policy`, and an application may write its own;
//! `terrace_conformance::policy` tests them.
//!
//! | question | values |
//! |---|---|
//! | expiry | [`Ttl`], [`Forever`] |
//! | freshness | [`Strict`], [`StaleWhileRevalidate`], [`StaleIfError`] |
//! | admission | [`AdmitAll`], [`SizeLimit`] |
//! | write | [`WriteThrough`], [`WriteAround`], [`CacheAside`] |
//! | stampede | [`SingleFlight`], [`NoCoalescing`], [`Lease`], [`LeaseOrStale`] |
//!
//! Read-through is no policy: it is a loader bound to the cache, `Builder::loader`.

mod admission;
mod expiry;
mod freshness;
mod stampede;
mod write;

pub use admission::{AdmitAll, SizeLimit};
pub use expiry::{Forever, Ttl};
pub use freshness::{StaleIfError, StaleWhileRevalidate, Strict};
pub use stampede::{Lease, LeaseOrStale, NoCoalescing, SingleFlight};
pub use write::{CacheAside, WriteAround, WriteThrough};
