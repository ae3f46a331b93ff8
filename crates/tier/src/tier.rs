//! The contract of remote tiers.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use crate::{Error, ErrorKind, InvalidationLog, LeaseWaiter, Namespace, Op, Publish, Reply, Result, TierKey};

/// How consistent a cache is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// A value may be as old as its time to live: no fences across processes, and in Redis one trip
    /// less on a miss. For immutable data (embeddings, content hashes, recorded answers).
    Ttl,
    /// A fill never overwrites or resurrects anything newer, in any shared tier, whichever process
    /// wrote it. Near copies of other processes go as soon as the invalidation log tells of it, and
    /// are not believed for more than a second where it is not heard.
    #[default]
    Fenced,
    /// No value that was superseded more than this long before the call, whatever crashes, pauses,
    /// parts or goes back in time: what cannot be proven is read from further down.
    Bounded(Duration),
    /// Linearizable for each key: every read asks the store, in a request sent after the call.
    Strong,
}

impl Level {
    /// Whether fills and writes are fenced across processes, and told in the log: at all levels but
    /// [`Ttl`](Self::Ttl).
    pub const fn is_fenced(self) -> bool {
        !matches!(self, Self::Ttl)
    }

    /// Its name, as tiers keep it: `ttl`, `fenced`, `bounded` (whatever the bound), `strong`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Fenced => "fenced",
            Self::Bounded(_) => "bounded",
            Self::Strong => "strong",
        }
    }
}

/// A server or file that caches share: made once, connected lazily.
pub trait Backend: Send + Sync + 'static {
    /// The short name of its tiers in stats, logs and errors: `redis`, `postgres`.
    fn name(&self) -> &str;

    /// The tier that serves `namespace`. No trip: a server that is away is a lost tier, not an error.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the backend cannot take the role, [`ErrorKind::NamespaceInUse`]
    /// where another cache of this handle uses the namespace on other terms.
    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>>;

    /// Its invalidation log, for caches that have no tier in it: see
    /// [`changes`](crate::Builder::watch_origin). By default it has none.
    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        None
    }
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        (**self).open(namespace)
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        (**self).log()
    }
}

/// A shared tier of one namespace: bytes in, bytes out, one call for each network trip.
///
/// Every operation does to its key what [`transition`](crate::transition) says, atomically; that
/// is the whole contract, and `terrace-conformance` checks it. A tier may forget any cell at any
/// time in the role of a cache. It never retries: that is the caller's decision.
///
/// [`Swapping`](crate::Swapping) makes one of get and compare-and-swap: the way to begin.
#[async_trait]
pub trait Tier: fmt::Debug + Send + Sync + 'static {
    /// Applies one operation to one key.
    ///
    /// # Errors
    /// Typed by [`ErrorKind`]; a write whose outcome is not known is [`ErrorKind::Unknown`].
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply>;

    /// Applies one operation to each of many keys, one answer a key, in order. Keys are distinct,
    /// and all operations of a batch are of one kind.
    ///
    /// # Cost
    /// One trip for each batch in Redis and Postgres; the default does 32 single calls at a time.
    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let calls = batch.into_iter().map(|(key, op)| async move { self.apply(&key, op).await });
        stream::iter(calls.collect::<Vec<_>>()).buffered(32).collect().await
    }

    /// Makes every copy of the tenant dead, by a new epoch; where the tier was opened without a tenant,
    /// every copy of the namespace, of all tenants. Records of a store stay.
    ///
    /// Reads through this handle see it at once, those through others within 100 ms; fills and
    /// writes are checked against it by the server.
    ///
    /// # Errors
    /// As [`apply`](Tier::apply).
    ///
    /// # Cost
    /// One trip; the memory of the dead copies is reclaimed in the background.
    async fn clear(&self) -> Result<()>;

    /// One trip to the server and back.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`], [`ErrorKind::Denied`].
    async fn ping(&self) -> Result<()>;

    /// Prepares for use and checks across processes that the namespace has one schema, shape, role
    /// and level. A higher schema number is a declared change of the type: it takes over, and the
    /// program with the lower one is refused from then on. By default a [`ping`](Tier::ping).
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] where another process uses the namespace on other terms.
    async fn ready(&self) -> Result<()> {
        self.ping().await
    }

    /// Whether `apply` and `apply_many` keep the budget of their [`Namespace`] themselves; else the
    /// chain puts a timer around each call.
    fn keeps_budget(&self) -> bool {
        false
    }

    /// The backend's invalidation log, where it has one. By default it has none: near tiers then
    /// hear of other processes' changes when their copies end.
    fn log(&self) -> Option<&dyn InvalidationLog> {
        None
    }

    /// Waiting for the leases that other processes hold here, where the tier can. By default it
    /// cannot: every process then loads for itself.
    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        None
    }

    /// The steps of a relay, where the tier can make them atomic. By default it cannot: no copy in it
    /// is then proven by a relay's mark.
    fn publish(&self) -> Option<&dyn Publish> {
        None
    }
}

/// The typed error for a reply that does not fit its operation: a fault of the tier.
pub fn unexpected(reply: &Reply) -> Error {
    let name = match reply {
        Reply::Hit(_) => "a hit",
        Reply::Miss(_) => "a miss",
        Reply::Kept(_) => "kept",
        Reply::Refused(_) => "refused",
        Reply::Done { .. } => "done",
    };
    Error::new(ErrorKind::Backend, format!("the tier answered {name}, which does not fit the operation"))
}
