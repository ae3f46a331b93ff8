//! Each kind of policy is a trait. The cache asks a policy through its trait, and `terrace-policies`
//! implements the traits.

use std::{sync::Arc, time::Duration};

use crate::Deadlines;
pub use crate::behind::{Backlog, BehindPlan, FrontPlace, FullJitter, WhenFull};

/// What an expiry policy knows of a value that is about to be written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriteContext {
    /// Whether the value is an absence, which would be kept as a negative entry.
    pub negative: bool,
    /// The life that the caller or the loader gave to this entry.
    pub ttl: Option<Duration>,
    /// A random number from 0 to below 1. A policy may use the random number for jitter, and each write
    /// draws a new one.
    pub chance: f64,
}

impl WriteContext {
    /// The context of a plain value. This constructor is for tests of a policy.
    pub fn value() -> Self {
        Self { negative: false, ttl: None, chance: 0.5 }
    }

    /// The context of a negative entry.
    pub fn absent() -> Self {
        Self { negative: true, ..Self::value() }
    }

    /// Sets the life that the caller or the loader gave.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    /// Sets the random number.
    #[must_use]
    pub fn with_chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }
}

/// How long an entry may be used, counted from its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How long the entry is fresh. An entry with a fresh time of zero is not kept.
    pub fresh: Duration,
    /// How much longer than its fresh time the entry may be served where the freshness policy allows it.
    pub stale: Duration,
}

impl Lifetime {
    /// A lifetime that never ends.
    pub const FOREVER: Self = Self { fresh: Duration::MAX, stale: Duration::ZERO };

    /// A lifetime that is fresh for `ttl` and has no stale time.
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

/// How long entries live. The cache asks the expiry policy once for each value that is loaded or put.
///
/// ```
/// use std::time::Duration;
/// use terrace_core::policy::{Expiry, Lifetime, WriteContext};
///
/// /// Values live for a minute, absences for a second.
/// struct Minute;
///
/// impl Expiry for Minute {
///     fn lifetime(&self, context: &WriteContext) -> Lifetime {
///         let default = if context.negative { 1 } else { 60 };
///         Lifetime::fresh(context.ttl.unwrap_or(Duration::from_secs(default)))
///     }
/// }
/// assert_eq!(Minute.lifetime(&WriteContext::absent()).fresh, Duration::from_secs(1));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an expiry policy",
    label = "not an expiry policy",
    note = "for a time to live use `Ttl::secs(60)` or `Ttl::of(duration)`; a policy of your own implements `Expiry`"
)]
pub trait Expiry: Send + Sync + 'static {
    /// The life of an entry with this context.
    fn lifetime(&self, context: &WriteContext) -> Lifetime;

    /// The longest life of an entry in a tier that was built with the life `tier_ttl`. By default the
    /// longest life is `tier_ttl` itself. The second argument is a random number from 0 to below 1.
    fn cap(&self, tier_ttl: Duration, _chance: f64) -> Duration {
        tier_ttl
    }

    /// The freshness policy of a cache whose builder names no freshness policy. A freshness policy
    /// decides about entries past their fresh time. By default an entry past its fresh time is a miss.
    fn freshness(&self) -> Option<Arc<dyn Freshness>> {
        None
    }
}

/// What a freshness policy knows of a hit past its fresh time and within its stale time.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StaleHit {
    /// The time since the entry's fresh time ended.
    pub stale_for: Duration,
    /// The rest of the entry's stale time.
    pub remaining: Duration,
    /// Whether the read can renew the entry: the call gave a loader, or the cache has a loader or a
    /// store.
    pub renewable: bool,
}

impl StaleHit {
    /// Makes a stale hit. This constructor is for tests of a policy.
    pub fn new(stale_for: Duration, remaining: Duration, renewable: bool) -> Self {
        Self { stale_for, remaining, renewable }
    }
}

/// What to do with a stale hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// Treat the stale entry as a miss.
    Miss,
    /// Serve the stale entry.
    Serve,
    /// Serve the stale entry, and renew it in the background.
    ServeAndRefresh,
}

/// Decides what is done with a hit past its fresh time and within its stale time. A cache whose expiry
/// policy gives no stale time never asks the freshness policy.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a freshness policy",
    label = "not a freshness policy",
    note = "the policies are `Strict`, `StaleWhileRevalidate` and `StaleIfError`; one of your own implements `Freshness`"
)]
pub trait Freshness: Send + Sync + 'static {
    /// Whether to serve the stale hit, and whether to renew its entry.
    fn on_stale(&self, hit: &StaleHit) -> OnStale;

    /// Whether to serve the stale hit after its renewal has failed, while it takes longer than the soft
    /// timeout, and until it is tried again. By default a stale hit is not served.
    fn on_error(&self, _hit: &StaleHit) -> bool {
        false
    }
}

/// What an admission policy knows of a value that is about to be kept in a tier.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdmitContext<'a> {
    /// The namespace of the cache.
    pub namespace: &'a str,
    /// The name of the tier; `near` for the near tier.
    pub tier: &'a str,
    /// The length of the encoded value with its envelope; `None` in a cache without remote tiers.
    pub size_bytes: Option<usize>,
}

impl<'a> AdmitContext<'a> {
    /// The context of an envelope of `size_bytes` for `tier`. This constructor is for tests of a policy.
    pub fn new(namespace: &'a str, tier: &'a str, size_bytes: Option<usize>) -> Self {
        Self { namespace, tier, size_bytes }
    }
}

/// Decides which values a tier keeps. A write that is not admitted leaves a tombstone in that tier.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an admission policy",
    label = "not an admission policy",
    note = "the policies are `AdmitAll` and `SizeLimit`; one of your own implements `Admission`"
)]
pub trait Admission: Send + Sync + 'static {
    /// Whether the tier keeps the value.
    fn admits(&self, context: &AdmitContext<'_>) -> bool;
}

/// What a put does to the copies in cache tiers, after the authority has confirmed the put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Replace the older copies with the new value.
    Replace,
    /// Drop the copies.
    Invalidate,
}

/// The steps of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritePlan {
    /// Whether the value goes to the store. This flag must be `true` in a cache with a store, and
    /// `false` in a cache without a store. A cache whose write policy breaks this rule does not build.
    pub store: bool,
    /// What a put does to the copies in cache tiers.
    pub copies: Copies,
}

/// Decides how values are put. The cache asks the policy once, when the cache is built.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a write policy",
    label = "not a write policy",
    note = "the policies are `WriteThrough`, `WriteAround`, `WriteBehind` and `CacheAside`; one of your own implements `WritePolicy`"
)]
pub trait WritePolicy: Send + Sync + 'static {
    /// The steps of each put.
    fn plan(&self) -> WritePlan;

    /// How the cache acknowledges writes before the store has them. By default it does not. The plan then says
    /// what becomes of the copies once the store has a write.
    fn behind(&self) -> Option<BehindPlan> {
        None
    }
}

/// How callers share the loads of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coalesce {
    /// Each caller runs its own load.
    Nobody,
    /// The callers of one process share one load of a key.
    Local,
    /// All processes that share a tier with a [`lease_waiter`](crate::Tier::lease_waiter) share one load
    /// of a key: the other processes wait for the loading process's fill.
    Lease,
    /// Processes share loads as with `Lease`, but a caller that would wait gets the stale value instead,
    /// if there is a value within its stale time.
    LeaseOrStale,
}

impl Coalesce {
    /// Whether processes wait for each other's loads.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::Lease | Self::LeaseOrStale)
    }
}

/// Decides how loads are shared. The cache asks the policy once, when the cache is built.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stampede policy",
    label = "not a stampede policy",
    note = "the policies are `SingleFlight`, `Lease`, `LeaseOrStale` and `NoCoalescing`; one of your own implements `Stampede`"
)]
pub trait Stampede: Send + Sync + 'static {
    /// Which callers share one load.
    fn coalesce(&self) -> Coalesce;
}
