//! The builder's settings of remote tiers become the chains of a cache here, one chain for each tenant.

use std::{sync::Arc, time::Duration};

use terrace_tier::{InvalidationLog, Namespace, Role, Scope};

use crate::{
    Backend, Clock, Error, Level, Result,
    chain::{Chain, Monitor, TierShared, TierSlot},
    freshness::{AppliedChanges, LEAST_BOUND, ProofSource, WatermarkTracker},
    near::TenantId,
    relay::RunningRelay,
};

/// The budget of one request in a cache tier, unless the configuration sets another budget.
pub(super) const TIER_BUDGET: Duration = Duration::from_millis(50);
/// The budget of one request in a store, unless the configuration sets another budget.
const STORE_BUDGET: Duration = Duration::from_secs(5);

/// A backend with its settings in one cache.
pub struct TierConfig {
    backend: Arc<dyn Backend>,
    budget: Option<Duration>,
    ttl: Option<Duration>,
}

impl<B: Backend> From<B> for TierConfig {
    fn from(backend: B) -> Self {
        Self { backend: Arc::new(backend), budget: None, ttl: None }
    }
}

/// The settings of a backend in one cache. Every [`Backend`] has the methods of this trait.
///
/// ```
/// use std::time::Duration;
/// use terrace_core::{Builder, NoNear, TierSettings};
/// # use terrace_conformance::Fake;
///
/// let redis = Fake::named("redis");
/// let settings = redis.budget(Duration::from_millis(20)).ttl(Duration::from_secs(60));
/// let builder = Builder::<u64, String, NoNear>::new("users".to_owned(), NoNear).tier(settings);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shared tier",
    label = "not a shared tier",
    note = "`.tier(..)` and `.store(..)` take `Redis`, `Postgres`, `Sqlite` or another `Backend`; a near tier goes into `.near(..)`",
    note = "a constructor that gives a `Result`, as `Redis::new(url)`, needs a `?`"
)]
pub trait TierSettings: Into<TierConfig> + Sized {
    /// Sets how long one request to the backend may take, queues and round trips included. Without a
    /// budget setting a request may take 50 ms in a cache tier and 5 s in a store.
    fn budget(self, budget: Duration) -> TierConfig {
        TierConfig { budget: Some(budget), ..self.into() }
    }

    /// Sets the longest life of a copy in the backend. A copy never lives longer than its entry.
    fn ttl(self, ttl: Duration) -> TierConfig {
        TierConfig { ttl: Some(ttl), ..self.into() }
    }
}

impl<T: Into<TierConfig>> TierSettings for T {}

const NO_TRUTH: &str = "Level::Bounded needs a store, or `watch_origin`, or an expiry policy whose lives are no longer \
    than the bound: nothing else says that a value is old";
const NO_WATERMARKS: &str = "Level::Bounded with a cache tier needs a truth whose log can be relayed (Postgres) and a tier \
    that keeps the relay's watermark (Redis): nothing else proves its copies";

/// The specification from which each tenant's chain is made.
pub(super) struct ChainSpec {
    /// The cache's namespace, without a tenant.
    namespace: Namespace,
    /// The cache tiers from near to far, then the store.
    tiers: Vec<TierSpec>,
    /// The log of the origin, and the name of the backend that keeps it.
    origin_log: Option<(Arc<dyn InvalidationLog>, String)>,
}

/// The specification from which the slots of one tier are made.
struct TierSpec {
    backend: Arc<dyn Backend>,
    shared: Arc<TierShared>,
    budget: Duration,
}

impl ChainSpec {
    pub(super) fn new(
        namespace: Namespace,
        tiers: &[TierConfig],
        store: Option<&TierConfig>,
        origin_log: Option<(Arc<dyn InvalidationLog>, String)>,
        monitor: &Arc<Monitor>,
        max_calls: usize,
    ) -> Self {
        let spec = |config: &TierConfig, role, budget, beyond: &[Arc<TierShared>]| {
            let (name, monitor) = (config.backend.name(), Arc::clone(monitor));
            let shared = TierShared::new(name, role, config.ttl, monitor, beyond, max_calls);
            let (backend, shared) = (Arc::clone(&config.backend), Arc::new(shared));
            TierSpec { backend, shared, budget: config.budget.unwrap_or(budget) }
        };
        let (mut specs, mut beyond) = (Vec::new(), Vec::new());
        for config in tiers.iter().rev() {
            let tier = spec(config, Role::Cache, TIER_BUDGET, &beyond);
            beyond.push(Arc::clone(&tier.shared));
            specs.push(tier);
        }
        specs.reverse();
        specs.extend(store.map(|config| spec(config, Role::Store, STORE_BUDGET, &[])));
        Self { namespace, tiers: specs, origin_log }
    }

    /// The log that reports changes of the source of truth: the store's log, or without a store the
    /// origin's log.
    fn truth_log(&self) -> Option<Arc<dyn InvalidationLog>> {
        let store = self.tiers.iter().find(|tier| tier.shared.role == Role::Store);
        let origin_log = || self.origin_log.as_ref().map(|(log, _)| Arc::clone(log));
        store.map_or_else(origin_log, |tier| tier.backend.log())
    }

    /// The source that proves copies at level `Bounded`. `ages` says that the expiry policy lets no copy
    /// live longer than the bound.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Config`](crate::ErrorKind::Config) where nothing proves copies.
    pub(super) fn proof_source(&self, chain: &Chain, ages: bool, clock: &Clock) -> Result<ProofSource> {
        let Level::Bounded(bound) = self.namespace.level else { return Ok(ProofSource::None) };
        if bound < LEAST_BOUND {
            return Err(Error::config("the bound of Level::Bounded is at least 100 ms"));
        }
        if chain.store.is_none() && self.origin_log.is_none() {
            return if ages { Ok(ProofSource::Age) } else { Err(Error::config(NO_TRUTH)) };
        }
        match (&chain.tiers[..], self.tiers.first()) {
            ([], _) => Ok(if chain.log().is_some() { ProofSource::Log } else { ProofSource::ReadTime }),
            ([slot], Some(tier)) => {
                let replays = self.truth_log().is_some_and(|log| log.replay().is_some());
                if !(slot.publishes() && slot.log().is_some() && replays) {
                    return Err(Error::config(NO_WATERMARKS));
                }
                let namespace = self.namespace.clone().with_budget(tier.budget);
                let tracker = WatermarkTracker::new(&*tier.backend, &namespace, clock.clone())?;
                Ok(ProofSource::Watermarks(tracker))
            }
            _ => Err(Error::config(
                "Level::Bounded takes one cache tier: no relay proves the copies of a second",
            )),
        }
    }

    /// Starts to relay the log of the source of truth into the cache tiers, if the cache has such a log
    /// and cache tiers. The relay ends when the returned value is dropped.
    pub(super) fn relay(
        &self,
        tombstone_ttl: Duration,
        applied: &Arc<AppliedChanges>,
    ) -> Option<RunningRelay> {
        let log = self.truth_log()?;
        let tiers = self.tiers.iter().filter(|tier| tier.shared.role == Role::Cache);
        let tiers: Vec<_> = tiers.map(|tier| (Arc::clone(&tier.backend), tier.budget)).collect();
        if tiers.is_empty() || self.namespace.level == Level::Ttl {
            return None;
        }
        RunningRelay::start(log, self.namespace.clone(), tiers, tombstone_ttl, applied)
    }

    /// The remote tiers as one tenant sees them.
    pub(super) fn chain(&self, tenant: Option<&str>) -> Result<Chain> {
        let (mut tiers, mut store) = (Vec::new(), None);
        for tier in &self.tiers {
            let namespace = self.namespace.clone().with_tenant(tenant.map(str::to_owned));
            let namespace = namespace.with_role(tier.shared.role).with_budget(tier.budget);
            let namespace = namespace.with_promotion(!tiers.is_empty());
            let opened = tier.backend.open(&namespace)?;
            let slot = TierSlot::new(Arc::clone(&tier.shared), opened, Arc::new(namespace), &tiers);
            match tier.shared.role {
                Role::Cache => tiers.push(slot),
                Role::Store => store = Some(slot),
            }
        }
        let name = &self.namespace.name;
        Ok(Chain {
            tenant: tenant.map_or(TenantId::NONE, |tenant| TenantId::named(name, tenant)),
            scope: Scope::new(name, tenant),
            tiers,
            store,
            origin_log: self.origin_log.as_ref().map(|(log, _)| Arc::clone(log)),
            origin_name: self.origin_log.as_ref().map(|(_, name)| name.clone()),
            tenant_name: tenant.map(str::to_owned),
        })
    }
}
