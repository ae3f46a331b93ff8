//! The builder collects the parts of a cache.

mod assemble;
mod encoding;

use std::{future::Future, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};

use terrace_tier::InvalidationLog;

use super::{
    Cache,
    chain_spec::{TierConfig, TierSettings},
    classes::ClassNames,
    loader::BoundLoader,
};
use crate::{
    Backend, BoxError, Clock, Error, Item, Key, Level, Observer, Result, Value,
    codec::{Codec, Compression},
    near::Near,
    overload::DEFAULT_MAX_LOADS,
    policy::{
        Admission, BehindPlan, Coalesce, Expiry, Freshness, Lifetime, Stampede, WriteContext, WritePlan,
        WritePolicy,
    },
    recorder::Recorder,
    typed_codec::{KeyCodec, TypedCodec, Upgrade},
};

/// The parts of a cache that is being built. [`Cache::builder`] begins a builder. A part that is not set
/// has the default that its method names.
pub struct Builder<K, V, N> {
    namespace: String,
    near: N,
    near_ttl: Option<Duration>,
    tiers: Vec<TierConfig>,
    store: Option<TierConfig>,
    origin_log: OriginLog,
    codec: Option<TypedCodec<K, V>>,
    key_codec: Option<KeyCodec<K>>,
    loader: Option<BoundLoader<K, V>>,
    expiry: Arc<dyn Expiry>,
    freshness: Option<Arc<dyn Freshness>>,
    admission: Option<Arc<dyn Admission>>,
    write: Option<WritePlan>,
    behind: Option<BehindPlan>,
    coalesce: Coalesce,
    level: Level,
    load_deadline: Duration,
    soft_timeout: Duration,
    max_loads: usize,
    settings: CodecSettings,
    upgrades: Vec<Upgrade<V>>,
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
    recorder: Option<Recorder>,
    logs_reads: bool,
    spans: bool,
    classes: Option<ClassNames<K>>,
    types: PhantomData<fn() -> (K, V)>,
}

/// The log that reports changes of the origin.
enum OriginLog {
    None,
    /// The log, and the name of the backend that keeps it.
    Of(Arc<dyn InvalidationLog>, String),
    /// The given backend has no log.
    NoLog,
}

#[derive(Default)]
struct CodecSettings {
    codec: Option<Codec>,
    compression: Option<Compression>,
    schema: u32,
}

const LOAD_DEADLINE: Duration = Duration::from_secs(30);
const SOFT_TIMEOUT: Duration = Duration::from_secs(1);

/// The expiry policy of a builder without one: entries live for five minutes, and absences are not kept.
struct DefaultExpiry;

impl Expiry for DefaultExpiry {
    fn lifetime(&self, writing: &WriteContext) -> Lifetime {
        let default = if writing.negative { Duration::ZERO } else { Duration::from_secs(300) };
        Lifetime::fresh(writing.ttl.unwrap_or(default))
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Begins a cache named `namespace`. The near tier of the new cache is off until [`Builder::near`]
    /// sets one.
    pub fn builder(namespace: impl Into<String>) -> Builder<K, V, N> {
        Builder::new(namespace.into(), N::off())
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Builder<K, V, N> {
    /// Begins a cache with a near tier.
    pub fn new(namespace: String, near: N) -> Self {
        Self {
            namespace,
            near,
            near_ttl: None,
            tiers: Vec::new(),
            store: None,
            origin_log: OriginLog::None,
            codec: None,
            key_codec: None,
            loader: None,
            expiry: Arc::new(DefaultExpiry),
            freshness: None,
            admission: None,
            write: None,
            behind: None,
            coalesce: Coalesce::Local,
            level: Level::default(),
            load_deadline: LOAD_DEADLINE,
            soft_timeout: SOFT_TIMEOUT,
            max_loads: DEFAULT_MAX_LOADS,
            settings: CodecSettings::default(),
            upgrades: Vec::new(),
            clock: Clock::system(),
            observer: None,
            recorder: None,
            logs_reads: false,
            spans: false,
            classes: None,
            types: PhantomData,
        }
    }

    /// Sets the near tier. A cache whose builder sets no near tier has none.
    #[must_use]
    pub fn near(mut self, near: N) -> Self {
        self.near = near;
        self
    }

    /// Sets the longest life of an entry in the near tier. A near copy never lives longer than its
    /// entry. Where other processes change the same keys in tiers without an invalidation log, this life
    /// bounds how long this process may miss a change. The clock's [granularity](Clock::granularity),
    /// some 16 ms on Linux, is subtracted: with a shorter life the near tier keeps nothing.
    #[must_use]
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = Some(ttl);
        self
    }

    /// Adds a remote cache tier, which is farther than the tiers that were added before.
    #[must_use]
    pub fn tier(mut self, tier: impl TierSettings) -> Self
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.tiers.push(tier.into());
        self.codec.get_or_insert_with(TypedCodec::new);
        self.key_codec.get_or_insert_with(KeyCodec::new);
        self
    }

    /// Sets the store. The records live in the store, and everything nearer is a cache of the store.
    #[must_use]
    pub fn store(mut self, store: impl TierSettings) -> Self
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.store = Some(store.into());
        self.codec.get_or_insert_with(TypedCodec::new);
        self.key_codec.get_or_insert_with(KeyCodec::new);
        self
    }

    /// Follows the log of a backend in which the cache has no tier. The followed log reports changes of
    /// the data that the cache's loader reads. A change that the log reports for this namespace makes
    /// the copies old. `watch_origin` is for caches without a store, because a cache with a store
    /// follows the store's log anyway.
    ///
    /// With Postgres the log reports the keys that [`terrace.watch`] or [`terrace.invalidate`] name.
    ///
    /// [`terrace.watch`]: https://docs.rs/terrace-tier-postgres
    /// [`terrace.invalidate`]: https://docs.rs/terrace-tier-postgres
    #[must_use]
    pub fn watch_origin(mut self, origin: &impl Backend) -> Self
    where
        K: Serialize + DeserializeOwned,
    {
        let of = |log| OriginLog::Of(log, origin.name().to_owned());
        self.origin_log = origin.log().map_or(OriginLog::NoLog, of);
        self.key_codec.get_or_insert_with(KeyCodec::new);
        self
    }

    /// Binds a loader to the cache. Every read of a missing key runs the loader (read-through). A read
    /// with a loader of its own runs that loader instead.
    #[must_use]
    pub fn loader<L, F, T, E>(mut self, load: L) -> Self
    where
        L: Fn(K) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>>,
        F: Send + 'static, // a load outlives its caller: clone what it uses into it, as an Arc
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        self.loader = Some(Arc::new(move |key| {
            load(key).map(|result| result.map(Into::into).map_err(Error::load)).boxed()
        }));
        self
    }

    /// Sets how long entries live. Without an expiry policy entries live for five minutes, and absences
    /// are not kept.
    #[must_use]
    pub fn expire(mut self, expiry: impl Expiry) -> Self {
        self.expiry = Arc::new(expiry);
        self
    }

    /// Sets what is done with entries past their fresh time. Without a freshness policy the expiry
    /// policy decides about such entries.
    #[must_use]
    pub fn freshness(mut self, freshness: impl Freshness) -> Self {
        self.freshness = Some(Arc::new(freshness));
        self
    }

    /// Sets which values a tier keeps. Without an admission policy every tier keeps every value.
    #[must_use]
    pub fn admit(mut self, admission: impl Admission) -> Self {
        self.admission = Some(Arc::new(admission));
        self
    }

    /// Sets the steps of a put. Without a write policy a put is write-through in a cache with a store,
    /// and cache-aside in a cache without a store.
    #[must_use]
    pub fn write(mut self, write: impl WritePolicy) -> Self {
        self.write = Some(write.plan());
        self.behind = write.behind();
        self
    }

    /// Sets how loads are shared. Without a stampede policy one load of a key runs at a time in this
    /// process.
    #[must_use]
    pub fn stampede(mut self, stampede: impl Stampede) -> Self {
        self.coalesce = stampede.coalesce();
        self
    }

    /// Sets how consistent the cache is. A cache whose builder sets no level has [`Level::Fenced`].
    /// [`Cache::with`] makes a handle for reads of another level.
    ///
    /// [`build`](Builder::build) refuses some levels:
    ///
    /// - `build` refuses `Ttl` with a store.
    /// - `build` refuses `Strong` without a store.
    /// - `build` refuses `Bounded` below 100 ms, with two cache tiers, and with a cache tier whose
    ///   copies no relay proves.
    /// - `build` refuses `Bounded` without a store, without [`watch_origin`](Builder::watch_origin) and
    ///   with lives longer than the bound, because nothing proves a copy.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets how long a loader may take. Without a deadline setting a loader may take 30 s. The callers
    /// of a loader that takes longer get [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). Leases live
    /// a second longer than the load deadline.
    #[must_use]
    pub fn load_deadline(mut self, deadline: Duration) -> Self {
        self.load_deadline = deadline;
        self
    }

    /// Sets how long a caller waits for a load of a key whose stale value the freshness policy serves on
    /// errors ([`Freshness::on_error`]). Without a setting the soft timeout is one second. After that time
    /// the caller gets the stale value, and the load goes on in the background, until its deadline; its
    /// value is kept. Until the next try of the key, further readers get the stale value at once.
    ///
    /// A [`refresh`](Cache::refresh) waits for its load, and so does a caller without a stale value.
    ///
    /// # Cost
    /// One timer for each caller that has a stale value and waits for a load.
    #[must_use]
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = timeout;
        self
    }

    /// Sets how many loads of this cache may run at a time in this process, for all tenants together.
    /// Without a setting there may be 128. One load of a batch counts as one. A load that waits for
    /// another process, and a caller that shares a load, do not count; a load that a loader of the same
    /// cache starts, in its own task, is a part of the load of that loader. The future of a loader that is
    /// refused is dropped before it was polled.
    ///
    /// Where the limit is reached, callers that the freshness policy serves a stale value on errors get
    /// it at once. Other loads wait in a queue that is as long as the limit, for at most 100 ms. Renewals in
    /// the background take at most half of the limit, and do not wait.
    ///
    /// By Little's law an origin that answers `r` loads a second, in `t` seconds each, is busy with
    /// `r * t` loads under way. Set twice that number, divided by the number of processes. In a cache
    /// with a store whose tier does not bound its own calls
    /// ([`Tier::keeps_budget`](terrace_tier::Tier::keeps_budget)), as many calls of the store may be
    /// under way.
    ///
    /// # Errors
    /// The callers of a load that found no place get [`ErrorKind::Busy`](crate::ErrorKind::Busy), and
    /// [`build`](Builder::build) refuses 0.
    ///
    /// ```
    /// # use terrace_core::{Cache, NoNear};
    /// // A pool of 20 connections: more than 40 loads would only wait for one.
    /// let builder = Cache::<u64, String, NoNear>::builder("users").max_loads(40);
    /// ```
    #[must_use]
    pub fn max_loads(mut self, max: usize) -> Self {
        self.max_loads = max;
        self
    }

    /// Sets the clock. The default clock is the host's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Logs each hit and each miss of this cache at level DEBUG, with the fields `cache` and `tier`. Without
    /// this call reads are only counted.
    ///
    /// # Cost
    /// The cost is one log line for each tier that a read asks. A cache without this call pays nothing.
    #[must_use]
    pub fn log_reads(mut self) -> Self {
        self.logs_reads = true;
        self
    }

    /// Makes a span of the crate `tracing` for each call of a remote tier and for each load, at level DEBUG. The
    /// span `terrace_call` has the fields `cache`, `tier` and `operation`; the span `terrace_load` has `cache`. The
    /// parent of a span is the caller's span, also where the load goes on in a task of its own. Without this call
    /// there are no spans.
    ///
    /// # Cost
    /// A near hit makes no span. A span that no subscriber wants costs a few nanoseconds.
    #[must_use]
    pub fn spans(mut self) -> Self {
        self.spans = true;
        self
    }

    /// Counts the reads of this cache by class as well, in [`Stats::classes`](crate::Stats::classes): by model or
    /// by kind of page, for example. `class_of` gives the class of a key, which is one of `names`; a class that is
    /// not in the list counts as the last name.
    ///
    /// `class_of` must be quick and must not use the cache.
    ///
    /// # Errors
    /// [`build`](Builder::build) fails with [`ErrorKind::Config`](crate::ErrorKind::Config) for no name, for more
    /// than 32 names, and for a name that is given twice.
    ///
    /// # Cost
    /// A near hit adds to one counter more. Any other read calls `class_of` once or twice, and compares names.
    ///
    /// ```
    /// # use terrace_core::{Cache, NoNear};
    /// type Prompt = (String, String);
    /// let builder = Cache::<Prompt, String, NoNear>::builder("answers")
    ///     .class_by(["small", "large", "other"], |(model, _)| model);
    /// ```
    #[must_use]
    pub fn class_by(
        mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
        class_of: impl for<'k> Fn(&'k K) -> &'k str + Send + Sync + 'static,
    ) -> Self {
        self.classes = Some(ClassNames::new(names, class_of));
        self
    }

    /// Sets the observer, which receives every event of the cache.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Lets `recorder` write which keys the cache is asked for, while it is on. The recorder stays with the
    /// caller, who switches it. Several caches may share one.
    #[must_use]
    pub fn record(mut self, recorder: &Recorder) -> Self {
        self.recorder = Some(recorder.clone());
        self
    }
}
