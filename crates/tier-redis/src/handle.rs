//! The handle of one server.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::{
    Backend, BatchLimits, Batcher, Counters, Error, ErrorKind, Namespace, Result, Role, Tier,
    lease::LeaseTracker,
};

use crate::{
    builder::RedisBuilder,
    connection::{Address, ConnectionManager, Dialer},
    counters::RedisCounters,
    error::{NAME, error},
    leases::{RedisLeases, TierLeases},
    log::Log,
    namespace::{NamespaceStates, counters_key},
    read::{CellReader, MissRatio, ReadCall},
    scripts::{CellBatchers, CellOwner},
    tier::RedisTier,
    write::{CellWriter, Reclaimer},
};

/// With fewer outstanding calls than this, a GET goes out alone. From here on a shared MGET is faster.
const DIRECT_READS: usize = 2;
const READ_BATCH: usize = 512;
/// MGETs under way at a time, so that the server always has one to serve. With two it waits for callers;
/// with eight, 64 and 256 callers are a tenth faster (`cargo xtask bench-report redis`).
const READ_BATCHES: usize = 8;
const READ_QUEUE: usize = 16_384;

/// One Redis server, shared by any number of caches over one connection. Where several tokio runtimes use the
/// handle, each of them has a connection of its own.
///
/// The first call connects. While the server is away, calls fail at once with a typed error, the caches
/// go on without this tier, and a background task connects again. The task ends when the last clone of
/// the handle and the last tier are dropped.
///
/// Each attempt resolves the host name anew, or asks the sentinels anew, and takes no server but a primary. While
/// it is connected, the handle asks twice a second whether the server still is one; an answer that says that
/// it is not ends the connection at once.
///
/// # Errors
/// [`ErrorKind::Config`] for an invalid URL or setting. The message never contains a password.
///
/// # Cost
/// A hit, a fill, a write or a removal takes one trip. A miss that takes a lease takes two trips, and one while
/// misses are frequent. A batch takes as many for each 512 keys and about 4 MiB. Concurrent calls share trips and
/// scripts.
///
/// # Example
/// ```
/// use terrace_tier_redis::Redis;
///
/// let redis = Redis::new("localhost:6379")?;
/// let other = Redis::builder("redis://localhost:6379/1").prefix("shop").build()?;
/// # Ok::<(), terrace_tier::Error>(())
/// ```
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    address: Address,
    prefix: String,
    max_value_bytes: usize,
    manager: Arc<ConnectionManager>,
    log: Arc<Log>,
    states: Arc<Mutex<NamespaceStates>>,
    reclaimer: Arc<Reclaimer>,
    lease_tracker: LeaseTracker<RedisLeases>,
    /// The batchers of each budget in use.
    batchers: Mutex<HashMap<Duration, Batchers>>,
}

/// What lets concurrent calls with one budget share trips.
#[derive(Clone)]
struct Batchers {
    reads: Batcher<ReadCall>,
    scripts: Arc<CellBatchers>,
}

impl Redis {
    /// A handle of the server at `url`, with the default settings.
    ///
    /// | URL | stands for |
    /// |---|---|
    /// | `redis://[user:password@]host[:port][/db]` | one server; without a scheme this is meant |
    /// | `rediss://..` | the same over TLS, with verified certificates |
    /// | `redis+unix:///path[?db=1&user=..&pass=..]` | the unix socket of a server |
    /// | `redis+sentinel://[user:password@]host[:port][,host[:port]..]/master[/db]` | the primary that sentinels name; user and password are those of the servers |
    /// | `rediss+sentinel://..` | the same, and TLS to sentinels and servers |
    ///
    /// `valkey` may stand in the place of `redis` in each.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], as for [`RedisBuilder::build`].
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Self::builder(url).build()
    }

    /// A builder for the server at `url`. [`RedisBuilder::build`] reports an invalid URL.
    pub fn builder(url: impl AsRef<str>) -> RedisBuilder {
        RedisBuilder::new(url.as_ref())
    }

    /// The run id of the connected server. It changes when the server is restarted or replaced.
    ///
    /// `None` while the server is away, or if the user may not run `INFO`. The call makes no trip.
    pub fn run_id(&self) -> Option<Arc<str>> {
        self.0.manager.run_id()
    }
}

impl Redis {
    pub(crate) fn connect_through(dialer: Dialer, prefix: String, max_value_bytes: usize) -> Self {
        let address = dialer.address.clone();
        let manager = ConnectionManager::new(dialer);
        let states = Arc::new(Mutex::new(NamespaceStates::new(manager.namespaces.clone())));
        Self(Arc::new(Inner {
            address,
            log: Log::new(&prefix, Arc::clone(&manager), Arc::clone(&states)),
            lease_tracker: RedisLeases::tracker(&manager, &prefix),
            reclaimer: Reclaimer::new(&prefix),
            prefix,
            max_value_bytes,
            states,
            batchers: Mutex::default(),
            manager,
        }))
    }
}

impl Backend for Redis {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        if namespace.role != Role::Cache {
            return Err(config("Redis can only be a cache tier, not a store of records"));
        }
        let inner = &self.0;
        let state = inner.states.lock().open(&inner.prefix, namespace)?;
        let (namespace, manager) = (Arc::new(namespace.clone()), &inner.manager);
        let Batchers { reads, scripts } = inner.batchers(namespace.budget);
        let owner = Arc::new(CellOwner {
            namespace: Arc::clone(&namespace),
            state: Arc::clone(&state),
            log_keys: Arc::clone(&inner.log.keys),
            origin: AtomicU64::new(0),
        });
        Ok(Arc::new(RedisTier {
            reader: CellReader {
                owner: Arc::clone(&owner),
                manager: Arc::clone(manager),
                reads,
                scripts: Arc::clone(&scripts),
                misses: MissRatio::default(),
            },
            writer: CellWriter {
                owner,
                manager: Arc::clone(manager),
                scripts,
                log: Arc::clone(&inner.log),
                reclaimer: Arc::clone(&inner.reclaimer),
                max_value_bytes: inner.max_value_bytes,
            },
            leases: TierLeases { state: Arc::clone(&state), lease_tracker: inner.lease_tracker.clone() },
            prefix: inner.prefix.clone(),
            namespace,
            state,
            manager: Arc::clone(manager),
        }))
    }

    fn counters(&self, group: &str) -> Option<Arc<dyn Counters>> {
        let inner = &self.0;
        let key = counters_key(&inner.prefix, group);
        Some(Arc::new(RedisCounters { manager: Arc::clone(&inner.manager), key }))
    }
}

impl Inner {
    fn batchers(&self, budget: Duration) -> Batchers {
        let limits = BatchLimits::new(budget)
            .with_direct(DIRECT_READS)
            .with_batch(READ_BATCH)
            .with_workers(READ_BATCHES)
            .with_queue(READ_QUEUE);
        let new = || Batchers {
            reads: Batcher::new(ReadCall { manager: Arc::clone(&self.manager) }, limits),
            scripts: Arc::new(CellBatchers::new(&self.manager, budget)),
        };
        self.batchers.lock().entry(budget).or_insert_with(new).clone()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("address", &self.0.address)
            .field("prefix", &self.0.prefix)
            .field("connection", &self.0.manager)
            .finish_non_exhaustive()
    }
}

pub(crate) fn config(message: impl Into<String>) -> Error {
    error(ErrorKind::Config, message)
}
