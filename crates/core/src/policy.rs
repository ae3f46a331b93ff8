//! The questions that a cache asks its policies. Values that answer them are in `terrace-policies`.

use std::{sync::Arc, time::Duration};

use crate::Deadlines;

/// A value is about to be written: what an expiry policy knows of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriteContext {
    /// Whether it is a negative entry.
    pub negative: bool,
    /// The life that the caller or the loader gave this entry.
    pub ttl: Option<Duration>,
    /// A random number from 0 up to 1, drawn for this write: for jitter.
    pub chance: f64,
}

impl WriteContext {
    /// The context of a plain value: for tests of a policy.
    pub fn value() -> Self {
        Self { negative: false, ttl: None, chance: 0.5 }
    }

    /// The context of a negative entry.
    pub fn absent() -> Self {
        Self { negative: true, ..Self::value() }
    }

    /// With a life that the caller or the loader gave.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    /// With this random number.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }
}

/// How long an entry may be used, counted from its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Served without a question. Zero keeps nothing.
    pub fresh: Duration,
    /// And this much longer where the freshness policy allows it.
    pub stale: Duration,
}

impl Lifetime {
    /// Fresh for ever.
    pub const FOREVER: Self = Self { fresh: Duration::MAX, stale: Duration::ZERO };

    /// Fresh for `ttl`, then gone.
    pub const fn fresh(ttl: Duration) -> Self {
        Self { fresh: ttl, stale: Duration::ZERO }
    }

    /// The deadlines of an entry written at `written`.
    pub fn deadlines(self, written: crate::Timestamp) -> Deadlines {
        let fresh_until = written.after(self.fresh);
        let end = fresh_until.after(self.stale);
        Deadlines { written, fresh_until, stale_until: end, expires_at: end }
    }
}

/// Asked once for each value that is loaded or put: how long it lives.
///
/// ```
/// use std::time::Duration;
/// use terrace_core::policy::{Expiry, Lifetime, WriteContext};
///
/// /// A minute, and absences for a second.
/// struct Minute;
///
/// impl Expiry for Minute {
///     fn lifetime(&self, writing: &WriteContext) -> Lifetime {
///         let default = if writing.negative { 1 } else { 60 };
///         Lifetime::fresh(writing.ttl.unwrap_or(Duration::from_secs(default)))
///     }
/// }
/// assert_eq!(Minute.lifetime(&WriteContext::absent()).fresh, Duration::from_secs(1));
/// ```
pub trait Expiry: Send + Sync + 'static {
    /// The life of an entry.
    fn lifetime(&self, writing: &WriteContext) -> Lifetime;

    /// The cap on an entry's life in a tier that was given one of its own; by default `tier_ttl`.
    fn cap(&self, tier_ttl: Duration, _chance: f64) -> Duration {
        tier_ttl
    }

    /// What is done with an entry past its fresh time, where the cache was given no freshness
    /// policy; by default it is a miss.
    fn freshness(&self) -> Option<Arc<dyn Freshness>> {
        None
    }
}

/// A hit is past its fresh time, and within its stale time.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StaleHit {
    /// The time since its fresh time ended.
    pub stale_for: Duration,
    /// What remains of its stale time.
    pub remaining: Duration,
    /// Whether the reader can renew it: it brought a loader, or the cache has one or a store.
    pub renewable: bool,
}

impl StaleHit {
    /// A stale hit: for tests of a policy.
    pub fn new(stale_for: Duration, remaining: Duration, renewable: bool) -> Self {
        Self { stale_for, remaining, renewable }
    }
}

/// What to do with a stale hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// Treat it as a miss.
    Miss,
    /// Serve it.
    Serve,
    /// Serve it, and renew it off the caller's path.
    ServeAndRefresh,
}

/// Asked when a hit is past its fresh time and within its stale time. Never asked of a cache whose
/// expiry policy gives no stale time.
pub trait Freshness: Send + Sync + 'static {
    /// Serve it or not.
    fn on_stale(&self, hit: &StaleHit) -> OnStale;

    /// Whether to serve it after all, once renewing it has failed.
    fn on_error(&self, _hit: &StaleHit) -> bool {
        false
    }
}

/// A value is about to be kept in a tier.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdmitContext<'a> {
    /// The namespace of the cache.
    pub namespace: &'a str,
    /// The name of the tier; `near` for the near tier.
    pub tier: &'a str,
    /// The length of the envelope; `None` in a cache without remote tiers.
    pub size_bytes: Option<usize>,
}

impl<'a> AdmitContext<'a> {
    /// An envelope of `size_bytes` for `tier`: for tests of a policy.
    pub fn new(namespace: &'a str, tier: &'a str, size_bytes: Option<usize>) -> Self {
        Self { namespace, tier, size_bytes }
    }
}

/// Asked before a value is kept in a tier. A write that is not admitted leaves a tombstone there.
pub trait Admission: Send + Sync + 'static {
    /// Keep it or not.
    fn admits(&self, keeping: &AdmitContext<'_>) -> bool;
}

/// What a put does to the copies in cache tiers once the authority has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Replace what is older.
    Replace,
    /// Drop it.
    Invalidate,
}

/// Which steps a put takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritePlan {
    /// Whether the value goes to the store; a plan that says so needs one, and the other way round.
    pub store: bool,
    /// What happens to the copies.
    pub copies: Copies,
}

/// Asked when a cache is built: which way its puts take.
pub trait WritePolicy: Send + Sync + 'static {
    /// The steps.
    fn plan(&self) -> WritePlan;
}

/// How the loads of one key are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coalesce {
    /// Each caller loads for itself.
    Nobody,
    /// One load a key in this process.
    Local,
    /// One load a key among all processes that share a tier which can be waited at
    /// ([`Tier::lease_waiter`](crate::Tier::lease_waiter)): the others wait for its fill.
    Lease,
    /// As `Lease`; who would wait and has a stale value, within its stale time, gets that one.
    LeaseOrStale,
}

impl Coalesce {
    /// Whether processes wait for each other's loads.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::Lease | Self::LeaseOrStale)
    }
}

/// Asked when a cache is built: how loads are shared.
pub trait Stampede: Send + Sync + 'static {
    /// Who shares one load.
    fn coalesce(&self) -> Coalesce;
}
