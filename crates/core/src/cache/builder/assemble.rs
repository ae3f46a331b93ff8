//! [`Builder::build`] checks the parts of a cache and assembles them.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::{Follower, InvalidationLog, Namespace, Role};

use super::{
    super::{
        Cache, Tenants,
        chain_spec::{ChainSpec, TIER_BUDGET},
        classes::ClassNames,
        inner::{Inner, Periods, Policies},
        near_expiry::NearExpiry,
        tasks::Tasks,
    },
    Builder, OriginLog,
};
use crate::{
    Clock, Copies, Error, Key, Level, Result, Value, WriteContext, WritePlan,
    behind::{Behind, Context},
    chain::{Chain, Monitor, TierCounters, TierSlot, Warnings},
    fencing::Fencing,
    flight::Flights,
    freshness::{AppliedChanges, Coherence, ProofSource, max_staleness},
    near::Near,
    overload::{BackOff, LoadLimit},
    policy::BehindPlan,
    write::Renewals,
};

/// The longest name of a cache.
const MAX_NAMESPACE_BYTES: usize = 128;

/// How long a store keeps the tombstone of a removed record.
const REMOVED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

impl<K: Key, V: Value, N: Near<K, V>> Builder<K, V, N> {
    /// Builds the cache. Building a cache makes no round trip. A server that does not answer is a lost
    /// tier.
    ///
    /// A cache may be built outside of a tokio runtime, in a `static` for example, and be used by several
    /// runtimes. What it does in the background starts with the first call in a runtime, and starts again in
    /// another one when that has ended.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Config`] for a namespace that is
    /// empty or too long, and for parts that do not fit together. The call also fails with the backends'
    /// own errors, such as [`ErrorKind::NamespaceInUse`].
    ///
    /// [`ErrorKind::Config`]: crate::ErrorKind::Config
    /// [`ErrorKind::NamespaceInUse`]: crate::ErrorKind::NamespaceInUse
    pub fn build(self) -> Result<Cache<K, V, N>> {
        self.build_per_tenant()?.open(None)
    }

    /// Builds a family of caches, one for each tenant. The caches share all settings and limits.
    ///
    /// # Errors
    /// The errors are those of [`build`](Builder::build).
    pub fn build_per_tenant(self) -> Result<Tenants<K, V, N>> {
        let namespace = self.namespace.clone();
        self.assemble().map_err(|error| error.in_cache(namespace).during("build"))
    }

    fn assemble(mut self) -> Result<Tenants<K, V, N>> {
        let copies = self.check()?;
        let classes = self.classes.take().map(ClassNames::counted).transpose()?;
        let monitor =
            Arc::new(Monitor::new(&self.namespace, self.observer.take(), self.logs_reads, self.spans));
        let monitor_namespace = Arc::clone(&monitor.namespace);
        let namespace = self.namespace_options()?;
        let (store, origin_log) = (self.store.as_ref(), self.origin_log.log());
        let chains = ChainSpec::new(namespace, &self.tiers, store, origin_log, &monitor, self.max_loads);
        // This call reports a namespace that is in use now, and not only with the first tenant.
        let chain = chains.chain(None)?;
        let proof_source = chains.proof_source(&chain, self.ends_within_bound(), &self.clock)?;
        let (periods, applied) = (self.periods(), Arc::new(AppliedChanges::default()));
        let policies = Arc::new(Policies {
            freshness: self.freshness.or_else(|| self.expiry.freshness()),
            expiry: self.expiry,
            admission: self.admission,
            copies,
            coalesce: self.coalesce,
        });
        let behind = front(self.behind, &chains, &chain, &policies, &self.clock, &monitor, &periods)?;
        let inner = Arc::new(Inner {
            max_staleness: max_staleness(&chain, self.level, self.near.is_enabled(), &self.clock),
            near: self.near,
            near_counters: TierCounters::default(),
            near_expiry: NearExpiry::default(),
            observed: monitor.observer.is_some()
                || monitor.logs_reads
                || classes.is_some()
                || self.recorder.is_some(),
            classes,
            recorder: self.recorder,
            clock: self.clock.clone(),
            coherence: Coherence::default(),
            proof_source,
            monitor,
            flights: Arc::new(Flights::new()),
            relay: chains.relay(periods.tombstone, &applied),
            applied,
            warnings: Warnings::of_shared_tiers(&monitor_namespace, &chain),
            codec: self.codec,
            key_codec: self.key_codec,
            tasks: Tasks::default(),
            fencing: Fencing::of(self.level),
            policies,
            behind,
            level: self.level,
            loader: self.loader,
            load_limit: LoadLimit::new(self.max_loads, Arc::clone(&monitor_namespace)),
            back_off: BackOff::new(self.clock.clone()),
            periods,
            renewals: Renewals::default(),
            closed: AtomicBool::new(false),
            versions: AtomicU64::new(0),
        });
        let sweep = Arc::downgrade(&inner);
        inner.near_expiry.attach(sweep);
        if let Some(behind) = &inner.behind {
            behind.attach(Arc::downgrade(&inner) as Weak<dyn Follower>);
        }
        inner.follow_log(&chain);
        chain.far_to_near().for_each(TierSlot::watch);
        if let ProofSource::Watermarks(tracker) = &inner.proof_source {
            tracker.follow();
        }
        Ok(Tenants { inner, chains: Arc::new(chains) })
    }

    /// The namespace with the options that its caches must agree on. This method also sets how values
    /// are encoded.
    fn namespace_options(&mut self) -> Result<Namespace> {
        if let Some(codec) = &self.key_codec {
            codec.check()?;
        }
        let mut shape = 0;
        if let Some(codec) = &mut self.codec {
            codec.settings.schema = self.settings.schema;
            codec.settings.codec = self.settings.codec.unwrap_or(codec.settings.codec);
            codec.settings.compression = self.settings.compression.unwrap_or(codec.settings.compression);
            codec.check()?;
            codec.set_upgrades(std::mem::take(&mut self.upgrades))?;
            shape = codec.settings.shape.fingerprint();
        }
        let namespace = Namespace::new(&self.namespace, Role::Cache).with_level(self.level);
        Ok(namespace.with_type(self.settings.schema, shape).with_budget(TIER_BUDGET))
    }

    /// The periods of the cache. A lease lives longer than any load, and a tombstone longer than any
    /// lease.
    fn periods(&self) -> Periods {
        let lease = self.load_deadline.saturating_add(Duration::from_secs(1));
        Periods {
            near_ttl: self.near_ttl,
            load: self.load_deadline,
            soft: self.soft_timeout,
            lease,
            tombstone: lease.saturating_mul(2),
            removed: REMOVED_FOR,
        }
    }

    /// Whether the expiry policy lets no copy live longer than the bound of the level.
    fn ends_within_bound(&self) -> bool {
        let Level::Bounded(bound) = self.level else { return false };
        let lives = [false, true].into_iter().flat_map(|negative| {
            [0.0, 0.5, 1.0 - f64::EPSILON].map(|chance| WriteContext { negative, ttl: None, chance })
        });
        lives.into_iter().all(|writing| self.expiry.lifetime(&writing).fresh <= bound)
    }

    /// Refuses what write-behind cannot keep its promise with.
    fn check_behind(&self) -> Result<()> {
        let Some(plan) = &self.behind else { return Ok(()) };
        if self.store.is_none() {
            return Err(Error::config("write-behind needs a store: add one, or use CacheAside"));
        }
        if self.level != Level::Fenced {
            return Err(Error::config(
                "write-behind needs Level::Fenced; a handle of `with(Level::Strong)` may read",
            ));
        }
        if plan.cap.age >= REMOVED_FOR / 2 {
            return Err(Error::config(
                "the age of the backlog is below 3.5 days, half the time for which a store remembers removals",
            ));
        }
        if plan.batch == 0 || plan.attempts == 0 {
            return Err(Error::config("batch and attempts of write-behind are at least 1"));
        }
        Ok(())
    }

    /// Refuses parts that do not fit together. The result says what a put does with copies.
    fn check(&self) -> Result<Copies> {
        if self.namespace.is_empty() || self.namespace.len() > MAX_NAMESPACE_BYTES {
            return Err(Error::config("a namespace has 1 to 128 bytes"));
        }
        if self.max_loads == 0 {
            return Err(Error::config("max_loads is at least 1: with 0 no loader could ever run"));
        }
        self.check_behind()?;
        let stored = self.store.is_some();
        let plan = self.write.unwrap_or(WritePlan { store: stored, copies: Copies::Replace });
        if plan.store != stored {
            return Err(Error::config(match stored {
                true => "a cache with a store writes to it: use WriteThrough or WriteAround",
                false => "WriteThrough and WriteAround write to a store: add one, or use CacheAside",
            }));
        }
        if stored && self.level == Level::Ttl {
            return Err(Error::config(
                "level Ttl is for caches without a store; immutable values belong in a tier, not in a store",
            ));
        }
        if !stored && self.level == Level::Strong {
            return Err(Error::config("level Strong asks the store: add one, or take another level"));
        }
        match &self.origin_log {
            OriginLog::None => Ok(plan.copies),
            OriginLog::NoLog => {
                Err(Error::config("the backend given to `watch_origin` keeps no log of an origin's changes"))
            }
            OriginLog::Of(..) if stored => {
                Err(Error::config("a cache with a store follows the store's own log, not another's"))
            }
            OriginLog::Of(..) if self.level == Level::Ttl => {
                Err(Error::config("level Ttl follows no log; `watch_origin` needs Level::Fenced"))
            }
            OriginLog::Of(..) => Ok(plan.copies),
        }
    }
}

/// The front of a cache with write-behind.
fn front(
    plan: Option<BehindPlan>,
    chains: &ChainSpec,
    chain: &Chain,
    policies: &Arc<Policies>,
    clock: &Clock,
    monitor: &Arc<Monitor>,
    periods: &Periods,
) -> Result<Option<Arc<Behind>>> {
    let Some(plan) = plan else { return Ok(None) };
    if chain.store.as_ref().is_none_or(|store| store.front_store().is_none()) {
        return Err(Error::config("the store does not support write-behind; Postgres and SQLite do"));
    }
    let context = Context {
        policies: Arc::clone(policies),
        clock: clock.clone(),
        monitor: Arc::clone(monitor),
        warnings: Warnings::new(Arc::clone(&monitor.namespace), "write-behind"),
        tombstone: periods.tombstone,
        removed: periods.removed,
        near: OnceLock::new(),
    };
    let tenants = Mutex::new(HashMap::new());
    let chain_of = |tenant: Option<&str>| {
        let mut tenants = tenants.lock();
        if let Some(chain) = tenants.get(&tenant.map(str::to_owned)) {
            return Ok(Arc::clone(chain));
        }
        let chain = Arc::new(chains.chain(tenant)?);
        tenants.insert(tenant.map(str::to_owned), Arc::clone(&chain));
        Ok(chain)
    };
    Behind::new(plan, context, &chain_of).map(Some)
}

impl OriginLog {
    fn log(&self) -> Option<(Arc<dyn InvalidationLog>, String)> {
        match self {
            Self::Of(log, name) => Some((Arc::clone(log), name.clone())),
            Self::None | Self::NoLog => None,
        }
    }
}
