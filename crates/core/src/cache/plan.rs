//! The remote tiers of a cache: what was given to the builder, and the chains made of it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    grounds::{LEAST_BOUND, ProofSource},
    marks::WatermarkTracker,
};
use crate::{
    Backend, Clock, Error, InvalidationLog, Level, Namespace, Result, Role,
    chain::{Chain, Monitor, TierShared, TierSlot},
    key,
    near::TenantId,
    relay::{Relay, RelayHandle},
};

/// What one request may take in a cache tier, unless set.
pub(super) const TIER_BUDGET: Duration = Duration::from_millis(50);
/// And in a store.
const STORE_BUDGET: Duration = Duration::from_secs(5);

/// A backend with the settings of its place in one cache.
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

/// Settings of a backend's place in one cache; every [`Backend`] has them.
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
pub trait TierSettings: Into<TierConfig> + Sized {
    /// How long one request may take there, queues and trips included: 50 ms for a cache tier and
    /// 5 s for a store, unless set.
    fn budget(self, budget: Duration) -> TierConfig {
        TierConfig { budget: Some(budget), ..self.into() }
    }

    /// The longest life of a copy there; never longer than the entry's own.
    fn ttl(self, ttl: Duration) -> TierConfig {
        TierConfig { ttl: Some(ttl), ..self.into() }
    }
}

impl<T: Into<TierConfig>> TierSettings for T {}

const NO_TRUTH: &str = "Level::Bounded needs a store, or `changes`, or an expiry policy whose lives are no longer \
    than the bound: nothing else says that a value is old";
const NO_MARKS: &str = "Level::Bounded with a cache tier needs a truth whose log can be relayed (Postgres) and a tier \
    that keeps the relay's mark (Redis): nothing else proves its copies";

/// How the chain of each tenant is made.
pub(super) struct ChainSpec {
    space: Namespace,
    lines: Vec<(Arc<dyn Backend>, Arc<TierShared>, Duration)>,
    changes: Option<Arc<dyn InvalidationLog>>,
}

impl ChainSpec {
    pub(super) fn new(
        space: Namespace,
        tiers: &[TierConfig],
        store: Option<&TierConfig>,
        changes: Option<Arc<dyn InvalidationLog>>,
        monitor: &Arc<Monitor>,
        runtime: &Handle,
    ) -> Self {
        let line = |placed: &TierConfig, role, budget, beyond: &[Arc<TierShared>]| {
            let name = placed.backend.name();
            let line = TierShared::new(name, role, placed.ttl, Arc::clone(monitor), runtime.clone(), beyond);
            (Arc::clone(&placed.backend), Arc::new(line), placed.budget.unwrap_or(budget))
        };
        let (mut lines, mut beyond) = (Vec::new(), Vec::new());
        for placed in tiers.iter().rev() {
            let made = line(placed, Role::Cache, TIER_BUDGET, &beyond);
            beyond.push(Arc::clone(&made.1));
            lines.push(made);
        }
        lines.reverse();
        lines.extend(store.map(|placed| line(placed, Role::Store, STORE_BUDGET, &[])));
        Self { space, lines, changes }
    }

    /// The log that tells of the truth: the store's, else the one beside the chain.
    fn truth_log(&self) -> Option<Arc<dyn InvalidationLog>> {
        let store = self.lines.iter().find(|(_, line, _)| line.role == Role::Store);
        store.map_or_else(|| self.changes.clone(), |(backend, ..)| backend.log())
    }

    /// What proves copies at level `Bounded`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where nothing does.
    pub(super) fn grounds(&self, chain: &Chain, ages: bool, clock: &Clock) -> Result<ProofSource> {
        let Level::Bounded(bound) = self.space.level else { return Ok(ProofSource::None) };
        if bound < LEAST_BOUND {
            return Err(Error::config("the bound of Level::Bounded is at least 100 ms"));
        }
        if chain.store.is_none() && self.changes.is_none() {
            return if ages { Ok(ProofSource::Age) } else { Err(Error::config(NO_TRUTH)) };
        }
        match (&chain.tiers[..], self.lines.first()) {
            ([], _) => Ok(if chain.log().is_some() { ProofSource::Log } else { ProofSource::ReadTime }),
            ([tier], Some((backend, _, budget))) => {
                let replays = self.truth_log().is_some_and(|log| log.replay().is_some());
                if !(tier.publishes() && tier.log().is_some() && replays) {
                    return Err(Error::config(NO_MARKS));
                }
                let space = self.space.clone().with_budget(*budget);
                let marks = WatermarkTracker::new(&**backend, &space, clock.clone())?;
                Ok(ProofSource::Watermarks(marks))
            }
            _ => Err(Error::config(
                "Level::Bounded takes one cache tier: no relay proves the copies of a second",
            )),
        }
    }

    /// Starts to relay what the truth's log tells into the cache tiers, if it has one and there are
    /// any. It ends with the answer.
    pub(super) fn relay(&self, tombstone_ttl: Duration, runtime: &Handle) -> Option<Arc<RelayHandle>> {
        let log = self.truth_log()?;
        let tiers = self.lines.iter().filter(|(_, line, _)| line.role == Role::Cache);
        let tiers: Vec<_> = tiers.map(|(backend, _, budget)| (Arc::clone(backend), *budget)).collect();
        if tiers.is_empty() || self.space.level == Level::Ttl {
            return None;
        }
        let wake = Arc::new(RelayHandle::default());
        let relay = Relay::new(log.replay()?, self.space.clone(), tiers, tombstone_ttl);
        runtime.spawn(relay.run(Arc::downgrade(&wake)));
        let follower: Weak<RelayHandle> = Arc::downgrade(&wake);
        log.follow(&self.space.name, follower);
        Some(wake)
    }

    /// The remote tiers as one tenant sees them.
    pub(super) fn chain(&self, tenant: Option<&str>) -> Result<Chain> {
        let namespace = &self.space.name;
        let (mut tiers, mut store) = (Vec::new(), None);
        for (backend, line, budget) in &self.lines {
            let space = self.space.clone().with_tenant(tenant.map(str::to_owned));
            let space = space.with_role(line.role).with_budget(*budget);
            let tier = backend.open(&space)?;
            let place = TierSlot::new(Arc::clone(line), tier, Arc::new(space), &tiers);
            match line.role {
                Role::Cache => tiers.push(place),
                Role::Store => store = Some(place),
            }
        }
        let id = tenant.map_or(TenantId::NONE, |tenant| TenantId::named(namespace, tenant));
        Ok(Chain {
            tenant: id,
            scope: key::Scope::new(namespace, tenant),
            tiers,
            store,
            changes: self.changes.clone(),
            tenant_name: tenant.map(str::to_owned),
        })
    }
}
