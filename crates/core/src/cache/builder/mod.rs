//! From parts to a cache.

mod assemble;

use std::{future::Future, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};

use terrace_tier::InvalidationLog;

use super::{Cache, chain_spec::TierConfig, loader::BoundLoader};
use crate::{
    Backend, BoxError, Clock, Error, Item, Key, Level, Observer, Result, Value,
    codec::{Codec, Compression},
    near::Near,
    policy::{
        Admission, Coalesce, Expiry, Freshness, Lifetime, Stampede, WriteContext, WritePlan, WritePolicy,
    },
    typed_codec::{KeyCodec, TypedCodec},
};

/// What a cache is made of; from [`Cache::builder`]. What is not set has the default that its method
/// names.
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
    coalesce: Coalesce,
    level: Level,
    load_deadline: Duration,
    settings: CodecSettings,
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
    types: PhantomData<fn() -> (K, V)>,
}

/// The log that reports changes of the origin.
enum OriginLog {
    None,
    Of(Arc<dyn InvalidationLog>),
    /// The backend that was given has no log.
    NoLog,
}

#[derive(Default)]
struct CodecSettings {
    codec: Option<Codec>,
    compression: Option<Compression>,
    schema: u32,
}

const LOAD_DEADLINE: Duration = Duration::from_secs(30);

/// Without an expiry policy: entries live for five minutes, and absences are not kept.
struct DefaultExpiry;

impl Expiry for DefaultExpiry {
    fn lifetime(&self, writing: &WriteContext) -> Lifetime {
        let default = if writing.negative { Duration::ZERO } else { Duration::from_secs(300) };
        Lifetime::fresh(writing.ttl.unwrap_or(default))
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Begins a cache named `namespace`; its near tier is off until [`Builder::near`] gives one.
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
            coalesce: Coalesce::Local,
            level: Level::default(),
            load_deadline: LOAD_DEADLINE,
            settings: CodecSettings::default(),
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
    /// may not notice. The clock's [granularity](Clock::granularity) is taken off, some 16 ms on Linux: a
    /// shorter life is none.
    #[must_use]
    pub fn near_ttl(mut self, ttl: Duration) -> Self {
        self.near_ttl = Some(ttl);
        self
    }

    /// Adds a remote cache tier, farther than those added before.
    #[must_use]
    pub fn tier(mut self, tier: impl Into<TierConfig>) -> Self
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.tiers.push(tier.into());
        self.codec.get_or_insert_with(TypedCodec::new);
        self.key_codec.get_or_insert_with(KeyCodec::new);
        self
    }

    /// Names the store: the records live there, and everything nearer is a cache of it.
    #[must_use]
    pub fn store(mut self, store: impl Into<TierConfig>) -> Self
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.store = Some(store.into());
        self.codec.get_or_insert_with(TypedCodec::new);
        self.key_codec.get_or_insert_with(KeyCodec::new);
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
    pub fn watch_origin(mut self, origin: &impl Backend) -> Self
    where
        K: Serialize + DeserializeOwned,
    {
        self.origin_log = origin.log().map_or(OriginLog::NoLog, OriginLog::Of);
        self.key_codec.get_or_insert_with(KeyCodec::new);
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
    /// nothing proves a copy, which is without a store, without [`watch_origin`](Builder::watch_origin)
    /// and with lives longer than the bound, with a cache tier whose copies no relay certifies, with two
    /// cache tiers, and below 100 ms.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// How long a loader may take: 30 s unless set. Then its callers get
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). Leases live a second longer.
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
}
