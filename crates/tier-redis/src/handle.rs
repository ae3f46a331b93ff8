//! The handle of one server, and its builder.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use redis::Client;
use terrace_tier::{
    Backend, BatchLimits, Batcher, Error, ErrorKind, Namespace, Result, Role, Tier, lease::LeaseTracker,
};

use crate::{
    connection::{Address, ConnectionManager},
    error::{NAME, error},
    leases::{RedisLeases, TierLeases},
    log::Log,
    namespace::{NamespaceStates, is_prefix},
    read::{CellReader, ReadCall},
    tier::RedisTier,
    write::CellWriter,
};

/// With fewer outstanding calls than this, a GET goes out alone. From here on a shared MGET is faster.
const DIRECT_READS: usize = 2;
const READ_BATCH: usize = 512;
/// MGETs under way at a time, so that the server always has one to serve. With two it waits for callers;
/// with eight, 64 and 256 callers are a tenth faster (`cargo xtask bench-report redis`).
const READ_BATCHES: usize = 8;
const READ_QUEUE: usize = 16_384;

/// One Redis server, shared by any number of caches over one connection.
///
/// The first call connects. While the server is away, calls fail at once with a typed error, the caches
/// go on without this tier, and a background task connects again. The task ends when the last clone of
/// the handle and the last tier are dropped.
///
/// # Errors
/// [`ErrorKind::Config`] for an invalid URL or setting. The message never contains a password.
///
/// # Cost
/// A hit, a fill, a write or a removal takes one trip, and a miss that takes a lease takes two. A batch
/// takes as many for each page of up to 512 keys and about 4 MiB. Concurrent reads share trips.
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
    lease_tracker: LeaseTracker<RedisLeases>,
    /// One batcher for each budget in use.
    batchers: Mutex<HashMap<Duration, Batcher<ReadCall>>>,
}

/// The settings of a [`Redis`] handle.
#[derive(Clone, Debug)]
pub struct RedisBuilder {
    address: Result<Address>,
    prefix: String,
    connect_timeout: Duration,
    max_value_bytes: usize,
    plaintext: bool,
}

impl Redis {
    /// A handle of the server at `url`, with the default settings.
    ///
    /// The URL has the form `redis://[user:password@]host[:port][/db]`. The scheme `rediss://` stands for
    /// TLS with verified certificates. Without a scheme, `redis://` is meant.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], as for [`RedisBuilder::build`].
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Self::builder(url).build()
    }

    /// A builder for the server at `url`. [`RedisBuilder::build`] reports an invalid URL.
    pub fn builder(url: impl AsRef<str>) -> RedisBuilder {
        RedisBuilder {
            address: Address::parse(url.as_ref()),
            prefix: "terrace".into(),
            connect_timeout: Duration::from_secs(1),
            max_value_bytes: 1 << 20,
            plaintext: false,
        }
    }

    /// The run id of the connected server. It changes when the server is restarted or replaced.
    ///
    /// `None` while the server is away, or if the user may not run `INFO`. The call makes no trip.
    pub fn run_id(&self) -> Option<Arc<str>> {
        self.0.manager.run_id()
    }
}

impl RedisBuilder {
    /// The prefix of all keys, by default `terrace`: 1 to 64 letters, digits, `_`, `-` or `.`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The password of the login. It replaces a password in the URL.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        if let Ok(address) = &mut self.address {
            address.set_password(password.into());
        }
        self
    }

    /// The longest time for one attempt to connect, by default 1 s.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The largest encoded value in bytes, by default 1 MiB.
    ///
    /// A write of a larger value fails with [`ErrorKind::TooLarge`]. On the shared connection it would delay
    /// all other calls.
    #[must_use]
    pub fn max_value_bytes(mut self, max_value_bytes: usize) -> Self {
        self.max_value_bytes = max_value_bytes;
        self
    }

    /// Allows a connection without TLS to another host. The network between can then read and change the
    /// cached values.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// Builds the handle. The first call through it connects.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid URL or prefix, or for another host without TLS unless
    /// [`allow_plaintext`](Self::allow_plaintext) is set.
    pub fn build(self) -> Result<Redis> {
        let address = self.address?;
        if address.is_plaintext_to_another_host() && !self.plaintext {
            return Err(config(format!(
                "{address} is another host without TLS; use rediss://, or allow it with allow_plaintext()"
            )));
        }
        if !is_prefix(&self.prefix) {
            return Err(config("a key prefix is 1 to 64 letters, digits, '_', '-' or '.'"));
        }
        if address.is_tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may have installed a provider meanwhile, which serves as well.
            let _already_installed = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(address.connection_info()?)
            .map_err(|_| config(format!("{address} cannot be used as a Redis server")))?;
        let manager = ConnectionManager::new(client.clone(), self.connect_timeout);
        let states = Arc::default();
        Ok(Redis(Arc::new(Inner {
            address,
            log: Log::new(&self.prefix, Arc::clone(&manager), Arc::clone(&states)),
            lease_tracker: RedisLeases::tracker(&manager, &client, &self.prefix),
            prefix: self.prefix,
            max_value_bytes: self.max_value_bytes,
            manager,
            states,
            batchers: Mutex::default(),
        })))
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
        Ok(Arc::new(RedisTier {
            reader: CellReader {
                namespace: Arc::clone(&namespace),
                state: Arc::clone(&state),
                manager: Arc::clone(manager),
                batcher: inner.batcher(namespace.budget),
            },
            writer: CellWriter {
                namespace: Arc::clone(&namespace),
                state: Arc::clone(&state),
                manager: Arc::clone(manager),
                log: Arc::clone(&inner.log),
                origin: AtomicU64::new(0),
                max_value_bytes: inner.max_value_bytes,
            },
            leases: TierLeases { state: Arc::clone(&state), lease_tracker: inner.lease_tracker.clone() },
            namespace,
            state,
            manager: Arc::clone(manager),
        }))
    }
}

impl Inner {
    fn batcher(&self, budget: Duration) -> Batcher<ReadCall> {
        let limits = BatchLimits::new(budget)
            .with_direct(DIRECT_READS)
            .with_batch(READ_BATCH)
            .with_workers(READ_BATCHES)
            .with_queue(READ_QUEUE);
        let new = || Batcher::new(ReadCall { manager: Arc::clone(&self.manager) }, limits);
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

fn config(message: impl Into<String>) -> Error {
    error(ErrorKind::Config, message)
}
