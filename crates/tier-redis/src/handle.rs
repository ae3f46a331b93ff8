//! The handle of one server, and how it is made.

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
    address::Address, fault, layout, leases::RedisLeases, link::Link, log::Log, reads::Reads, space::States,
    tier::RedisTier,
};

/// Below so many outstanding calls a GET goes out alone: from here on sharing an MGET pays.
const DIRECT_READS: usize = 2;
const READ_BATCH: usize = 512;
/// So many MGETs under way at a time, so that the server always has one before it: with two it waits
/// for the callers of the last (`cargo xtask bench-report redis`: 64 and 256 callers gain a tenth).
const READ_BATCHES: usize = 8;
const READ_QUEUE: usize = 16_384;

/// One Redis server, shared by any number of caches: one connection, made at first use.
///
/// A server that is away is a lost tier, not an error: calls fail at once and typed, and a
/// background task connects again. It ends with the last clone of the handle and the last tier.
///
/// # Errors
/// [`ErrorKind::Config`] for a URL or a setting that cannot work, never with a password in it.
///
/// # Cost
/// One trip for a hit, a fill, a write or a removal; two for a miss that takes a lease. A batch: the
/// same, in pages of bounded size. Reads of many callers share trips.
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
    link: Arc<Link>,
    log: Arc<Log>,
    states: Arc<Mutex<States>>,
    inbox: LeaseTracker<RedisLeases>,
    /// One gate for each budget in use.
    gates: Mutex<HashMap<Duration, Batcher<Reads>>>,
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
    /// The server at `url`, with the default settings: `redis://[user:password@]host[:port][/db]`,
    /// `rediss://` for TLS (always verified), or without a scheme.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Self::builder(url).build()
    }

    /// Settings, to be changed before [`RedisBuilder::build`].
    pub fn builder(url: impl AsRef<str>) -> RedisBuilder {
        RedisBuilder {
            address: Address::parse(url.as_ref()),
            prefix: "terrace".into(),
            connect_timeout: Duration::from_secs(1),
            max_value_bytes: 1 << 20,
            plaintext: false,
        }
    }

    /// The run id of the server that is connected now: another one means that it was restarted or
    /// replaced. `None` while it is away, and where the user may not ask.
    pub fn run_id(&self) -> Option<Arc<str>> {
        self.0.link.run_id()
    }
}

impl RedisBuilder {
    /// What all keys begin with, `terrace` unless set: letters, digits, `_`, `-`, `.`; at most 64.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The password, where it does not stand in the URL.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        if let Ok(address) = &mut self.address {
            address.set_password(password.into());
        }
        self
    }

    /// How long one attempt to connect may take; 1 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The largest encoded value that is kept; 1 MiB unless set. A larger one would hold up
    /// everyone on the connection: it is [`ErrorKind::TooLarge`].
    #[must_use]
    pub fn max_value_bytes(mut self, max_value_bytes: usize) -> Self {
        self.max_value_bytes = max_value_bytes;
        self
    }

    /// Allows a connection without TLS to a host that is not this one: whoever is on the way can
    /// read and change what is cached.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// The handle. No connection is made yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a malformed URL or prefix, or plain TCP to another host without
    /// [`allow_plaintext`](Self::allow_plaintext).
    pub fn build(self) -> Result<Redis> {
        let address = self.address?;
        if address.is_plaintext_to_another_host() && !self.plaintext {
            return Err(config(format!(
                "{address} is not this host and has no TLS; use rediss://, or consent with allow_plaintext()"
            )));
        }
        if !layout::is_prefix(&self.prefix) {
            return Err(config("a key prefix is 1 to 64 letters, digits, '_', '-' or '.'"));
        }
        if address.is_tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Someone else may have been first: then theirs serves.
            let _theirs = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(address.connection_info()?)
            .map_err(|_| config(format!("{address} cannot be used as a Redis server")))?;
        let (link, states) = (Link::new(client.clone(), self.connect_timeout), Arc::default());
        Ok(Redis(Arc::new(Inner {
            address,
            log: Log::new(&self.prefix, Arc::clone(&link), Arc::clone(&states)),
            inbox: RedisLeases::inbox(&link, &client, &self.prefix),
            prefix: self.prefix,
            max_value_bytes: self.max_value_bytes,
            link,
            states,
            gates: Mutex::default(),
        })))
    }
}

impl Backend for Redis {
    fn name(&self) -> &str {
        fault::NAME
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        if space.role != Role::Cache {
            return Err(config("Redis keeps copies: it is a cache tier, not a store of records"));
        }
        let state = self.0.states.lock().open(&self.0.prefix, space)?;
        Ok(Arc::new(RedisTier {
            space: space.clone(),
            state,
            link: Arc::clone(&self.0.link),
            log: Arc::clone(&self.0.log),
            origin: AtomicU64::new(0),
            reads: self.0.gate(space.budget),
            inbox: self.0.inbox.clone(),
            max_value_bytes: self.0.max_value_bytes,
        }))
    }
}

impl Inner {
    fn gate(&self, budget: Duration) -> Batcher<Reads> {
        let (direct, batch, workers, queue) = (DIRECT_READS, READ_BATCH, READ_BATCHES, READ_QUEUE);
        let limits = BatchLimits::new(budget)
            .with_direct(direct)
            .with_batch(batch)
            .with_workers(workers)
            .with_queue(queue);
        let new = || Batcher::new(Reads(Arc::clone(&self.link)), limits);
        self.gates.lock().entry(budget).or_insert_with(new).clone()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("address", &self.0.address)
            .field("prefix", &self.0.prefix)
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}

fn config(message: impl Into<String>) -> Error {
    fault::error(ErrorKind::Config, message)
}
