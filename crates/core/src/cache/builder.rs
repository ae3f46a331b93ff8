//! From parts to a cache.

use std::{
    future::Future,
    hash::Hash,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;

use super::{
    Cache, Tenants,
    inner::{BoundLoader, Inner, Periods, Policies},
    level::Grounds,
    plan::{Placed, Plan, TIER_BUDGET},
    tasks::Tasks,
    trust::{self, Trust},
};
use crate::{
    Admission, Backend, BoxError, Clock, Coalesce, Copies, Error, ErrorKind, Expiry, Freshness,
    InvalidationLog, Item, Level, Lifetime, Near, Observer, Result, Role, Space, Stampede, WritePlan,
    WritePolicy, Writing,
    chain::{Monitor, TierCounters},
    codec::{Codec, Compression},
    flight::Flights,
    wire::{KeyWire, Wire},
};

/// What a cache is made of; from [`Cache::builder`]. What is not set has the default that its method
/// names.
pub struct Builder<K, V, N> {
    namespace: String,
    near: N,
    near_ttl: Option<Duration>,
    tiers: Vec<Placed>,
    store: Option<Placed>,
    changes: Changes,
    wire: Option<Wire<K, V>>,
    keys: Option<KeyWire<K>>,
    loader: Option<BoundLoader<K, V>>,
    expiry: Arc<dyn Expiry>,
    freshness: Option<Arc<dyn Freshness>>,
    admission: Option<Arc<dyn Admission>>,
    write: Option<WritePlan>,
    coalesce: Coalesce,
    level: Level,
    load_deadline: Duration,
    settings: WireSettings,
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
    types: PhantomData<fn() -> (K, V)>,
}

/// Where a cache hears of changes that are made beside its chain.
enum Changes {
    None,
    Of(Arc<dyn InvalidationLog>),
    /// It was given a backend that has none.
    NoLog,
}

#[derive(Default)]
struct WireSettings {
    codec: Option<Codec>,
    compression: Option<Compression>,
    schema: u32,
}

/// The longest name of a cache.
const MOST_NAMESPACE_BYTES: usize = 128;

const LOAD_DEADLINE: Duration = Duration::from_secs(30);

/// How long a store keeps the mark of a removed record.
const REMOVED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Without an expiry policy: entries live for five minutes, and absences are not kept.
struct DefaultExpiry;

impl Expiry for DefaultExpiry {
    fn lifetime(&self, writing: &Writing) -> Lifetime {
        let default = if writing.negative { Duration::ZERO } else { Duration::from_secs(300) };
        Lifetime::fresh(writing.ttl.unwrap_or(default))
    }
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// Begins a cache named `namespace`; its near tier is off until
    /// [`Builder::near`] gives one.
    pub fn builder(namespace: impl Into<String>) -> Builder<K, V, N> {
        Builder::new(namespace.into(), N::off())
    }
}

impl<K, V, N> Builder<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// Begins a cache with a near tier.
    pub fn new(namespace: String, near: N) -> Self {
        Self {
            namespace,
            near,
            near_ttl: None,
            tiers: Vec::new(),
            store: None,
            changes: Changes::None,
            wire: None,
            keys: None,
            loader: None,
            expiry: Arc::new(DefaultExpiry),
            freshness: None,
            admission: None,
            write: None,
            coalesce: Coalesce::Local,
            level: Level::default(),
            load_deadline: LOAD_DEADLINE,
            settings: WireSettings::default(),
            clock: Clock::system(),
            observer: None,
            types: PhantomData,
        }
    }

    /// The near tier; off, unless set.
    #[must_use]
    pub fn near(mut self, near: N) -> Self {
        self.near = near;
        self
    }

    /// The longest life of an entry in the near tier; never longer than the entry's own. Where other
    /// processes change the same keys in tiers without an invalidation log, it bounds how long this one
    /// may not notice.
    #[must_use]
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = Some(ttl);
        self
    }

    /// Adds a remote cache tier, farther than those added before.
    #[must_use]
    pub fn tier(mut self, tier: impl Into<Placed>) -> Self
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.tiers.push(tier.into());
        self.wire.get_or_insert_with(Wire::new);
        self.keys.get_or_insert_with(KeyWire::new);
        self
    }

    /// Names the store: the records live there, and everything nearer is a cache of it.
    #[must_use]
    pub fn store(mut self, store: impl Into<Placed>) -> Self
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.store = Some(store.into());
        self.wire.get_or_insert_with(Wire::new);
        self.keys.get_or_insert_with(KeyWire::new);
        self
    }

    /// Follows the log of a backend in which the cache has no tier, for the changes of what its loader
    /// reads: those that are told there for this namespace make copies old. For caches without a store,
    /// whose log is followed anyway.
    ///
    /// With Postgres: keys that [`terrace.watch`] or [`terrace.invalidate`] name.
    ///
    /// [`terrace.watch`]: https://docs.rs/terrace-tier-postgres
    /// [`terrace.invalidate`]: https://docs.rs/terrace-tier-postgres
    #[must_use]
    pub fn changes(mut self, origin: &impl Backend) -> Self
    where
        K: Serialize + DeserializeOwned,
    {
        self.changes = origin.log().map_or(Changes::NoLog, Changes::Of);
        self.keys.get_or_insert_with(KeyWire::new);
        self
    }

    /// Binds a loader: every read of a missing key runs it (read-through). A call that brings a loader
    /// of its own runs that one instead.
    #[must_use]
    pub fn loader<L, F, T, E>(mut self, load: L) -> Self
    where
        L: Fn(K) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        self.loader = Some(Arc::new(move |key| {
            load(key).map(|result| result.map(Into::into).map_err(Error::load)).boxed()
        }));
        self
    }

    /// How long entries live; five minutes, and absences not at all, unless set.
    #[must_use]
    pub fn expire(mut self, expiry: impl Expiry) -> Self {
        self.expiry = Arc::new(expiry);
        self
    }

    /// What is done with entries past their fresh time; what the expiry policy says, unless set.
    #[must_use]
    pub fn freshness(mut self, freshness: impl Freshness) -> Self {
        self.freshness = Some(Arc::new(freshness));
        self
    }

    /// What is kept in which tier; everything, unless set.
    #[must_use]
    pub fn admit(mut self, admission: impl Admission) -> Self {
        self.admission = Some(Arc::new(admission));
        self
    }

    /// Which way puts take: write-through with a store and cache-aside without, unless set.
    #[must_use]
    pub fn write(mut self, write: impl WritePolicy) -> Self {
        self.write = Some(write.plan());
        self
    }

    /// How loads are shared: one a key in this process, unless set.
    #[must_use]
    pub fn stampede(mut self, stampede: impl Stampede) -> Self {
        self.coalesce = stampede.coalesce();
        self
    }

    /// How consistent the cache is: [`Level::Fenced`] unless set. A handle for reads of another level
    /// is [`Cache::with`].
    ///
    /// What [`build`](Builder::build) refuses: `Ttl` with a store; `Strong` without one; `Bounded` where
    /// nothing proves a copy, which is without a store, without [`changes`](Builder::changes) and with
    /// lives longer than the bound, with a cache tier whose copies no relay certifies, with two cache
    /// tiers, and below 100 ms.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// How long a loader may take: 30 s unless set. Then its callers get
    /// [`ErrorKind::Timeout`]. Leases live a second longer.
    #[must_use]
    pub fn load_deadline(mut self, deadline: Duration) -> Self {
        self.load_deadline = deadline;
        self
    }

    /// How values are encoded for remote tiers: postcard unless set. Readers read every codec.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = Some(codec);
        self
    }

    /// How envelopes are compressed: lz4 above 1 KiB unless set.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = Some(compression);
        self
    }

    /// The schema number of the value type, 0 unless set: for a meaning that changes without its type.
    /// Bytes of another number are not read; those of a changed type are not read anyway.
    #[must_use]
    pub fn schema(mut self, schema: u32) -> Self {
        self.settings.schema = schema;
        self
    }

    /// The clock: the host's unless set.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Hears every event of the cache.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Builds the cache. No trip: servers that are away are lost tiers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] outside of a tokio runtime, for a namespace that is empty or too long,
    /// and for parts that do not fit together; the backends' own, [`ErrorKind::NamespaceInUse`]
    /// among them.
    pub fn build(self) -> Result<Cache<K, V, N>> {
        self.build_per_tenant()?.open(None)
    }

    /// Builds a family of caches, one a tenant. All settings and bounds are shared.
    ///
    /// # Errors
    /// As [`build`](Builder::build).
    pub fn build_per_tenant(mut self) -> Result<Tenants<K, V, N>> {
        let copies = self.check()?;
        let runtime = Handle::try_current()
            .map_err(|_| config("build the cache inside a tokio runtime: its loads and fills run there"))?;
        let monitor = Arc::new(Monitor::new(&self.namespace, self.observer.take()));
        if let Some(wire) = &mut self.wire {
            wire.settings.schema = self.settings.schema;
            wire.settings.codec = self.settings.codec.unwrap_or(wire.settings.codec);
            wire.settings.compression = self.settings.compression.unwrap_or(wire.settings.compression);
            wire.settings.check()?;
        }
        let shape = self.wire.as_ref().map_or(0, |wire| wire.settings.shape.fingerprint());
        let space = Space {
            namespace: self.namespace.clone(),
            tenant: None,
            role: Role::Cache,
            level: self.level,
            schema: self.settings.schema,
            shape,
            budget: TIER_BUDGET,
        };
        let ages = self.ages();
        let changes = match self.changes {
            Changes::Of(log) => Some(log),
            Changes::None | Changes::NoLog => None,
        };
        let plan = Plan::new(space, &self.tiers, self.store.as_ref(), changes, &monitor, &runtime);
        // A namespace that is in use is found now, not with the first tenant.
        let chain = plan.chain(None)?;
        let lease = self.load_deadline.saturating_add(Duration::from_secs(1));
        let mark = lease.saturating_mul(2);
        let grounds = plan.grounds(&chain, ages, &self.clock)?;
        let within = trust::within(&chain, self.level, self.near.is_enabled(), &self.clock);
        let inner = Arc::new(Inner {
            near: self.near,
            near_counters: TierCounters::default(),
            observed: monitor.observer.is_some(),
            clock: self.clock,
            trust: Trust::default(),
            within,
            grounds,
            monitor,
            flights: Arc::new(Flights::new()),
            wire: self.wire,
            keys: self.keys,
            tasks: Tasks::new(runtime.clone()),
            open_fills: Arc::default(),
            policies: Policies {
                freshness: self.freshness.or_else(|| self.expiry.freshness()),
                expiry: self.expiry,
                admission: self.admission,
                copies,
                coalesce: self.coalesce,
            },
            periods: Periods {
                near_ttl: self.near_ttl,
                load: self.load_deadline,
                lease,
                mark,
                removed: REMOVED_FOR,
            },
            level: self.level,
            loader: self.loader,
            relay: plan.relay(mark, &runtime),
            closed: AtomicBool::new(false),
            versions: AtomicU64::new(0),
        });
        inner.listen(&chain);
        if let Grounds::Marks(marks) = &inner.grounds {
            marks.follow();
        }
        Ok(Tenants { inner, plan: Arc::new(plan) })
    }

    /// Whether the expiry policy lets no copy live longer than the bound of the level.
    fn ages(&self) -> bool {
        let Level::Bounded(bound) = self.level else { return false };
        let lives = [false, true].into_iter().flat_map(|negative| {
            [0.0, 0.5, 1.0 - f64::EPSILON].map(|chance| Writing { negative, ttl: None, chance })
        });
        lives.into_iter().all(|writing| self.expiry.lifetime(&writing).fresh <= bound)
    }

    fn check(&self) -> Result<Copies> {
        if self.namespace.is_empty() || self.namespace.len() > MOST_NAMESPACE_BYTES {
            return Err(config("a namespace has 1 to 128 bytes"));
        }
        let stored = self.store.is_some();
        let plan = self.write.unwrap_or(WritePlan { store: stored, copies: Copies::Replace });
        if plan.store != stored {
            return Err(config(match stored {
                true => "a cache with a store writes to it: use WriteThrough or WriteAround",
                false => "WriteThrough and WriteAround write to a store: add one, or use CacheAside",
            }));
        }
        if stored && self.level == Level::Ttl {
            return Err(config(
                "level Ttl is for caches without a store; immutable values belong in a tier, not in a store",
            ));
        }
        if !stored && self.level == Level::Strong {
            return Err(config("level Strong asks the store: add one"));
        }
        match &self.changes {
            Changes::None => Ok(plan.copies),
            Changes::NoLog => {
                Err(config("the backend given to `changes` keeps no log of an origin's changes"))
            }
            Changes::Of(_) if stored => {
                Err(config("a cache with a store follows the store's own log, not another's"))
            }
            Changes::Of(_) if self.level == Level::Ttl => {
                Err(config("level Ttl follows no log; `changes` needs Level::Fenced"))
            }
            Changes::Of(_) => Ok(plan.copies),
        }
    }
}

pub(super) fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message)
}
