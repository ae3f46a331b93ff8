//! The contract of remote tiers.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use crate::{
    Counters, Error, ErrorKind, Finding, FindingWatcher, FrontStore, InvalidationLog, LeaseWaiter, Namespace,
    Op, Publish, Reply, Result, TierKey,
};

/// A handle to a server or file that caches share. It is made once, and connects when it is first used.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a backend of shared tiers",
    label = "not a backend of shared tiers",
    note = "`Redis`, `Postgres` and `Sqlite` are backends; a near tier as `Memory` is none"
)]
pub trait Backend: Send + Sync + 'static {
    /// The short name of the backend's tiers in stats, logs and errors, such as `redis` or `postgres`.
    fn name(&self) -> &str;

    /// The tier that serves `namespace`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the backend cannot take the role, [`ErrorKind::NamespaceInUse`]
    /// where another cache of this handle uses the namespace with other settings (see
    /// [`NamespaceRegistry`](crate::NamespaceRegistry)). That a server cannot be reached is not an
    /// error here: the calls of its tier fail instead.
    ///
    /// # Cost
    /// No round trip.
    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>>;

    /// The backend's invalidation log, for caches that have no tier in this backend but follow its
    /// changes (`Builder::watch_origin`). By default there is none.
    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        None
    }

    /// The counters of the group with this name, which all processes that use the server share. By default there are
    /// none.
    ///
    /// # Cost
    /// No round trip.
    fn counters(&self, group: &str) -> Option<Arc<dyn Counters>> {
        let _ = group;
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

    fn counters(&self, group: &str) -> Option<Arc<dyn Counters>> {
        (**self).counters(group)
    }
}

/// A shared tier of one namespace. It takes and returns bytes, and makes one round trip for each call.
///
/// Every operation changes the cell of its key as [`transition`](crate::transition) says, atomically.
/// That is the whole contract, and `terrace-conformance` checks it. In the role of a cache, a tier may
/// forget any cell at any time. A tier never retries a call: the caller decides that.
///
/// [`Swapping`](crate::Swapping) makes a tier out of get and compare-and-swap, which is the way to begin.
#[async_trait]
pub trait Tier: fmt::Debug + Send + Sync + 'static {
    /// Applies one operation to one key.
    ///
    /// # Errors
    /// Each error has its [`ErrorKind`]. A write that may or may not have happened is
    /// [`ErrorKind::Unknown`]. A tier that sends the writes of concurrent callers together decides and answers
    /// each of them alone. An operation that the tier does not know is [`ErrorKind::Unsupported`].
    ///
    /// # Cost
    /// One round trip, which concurrent calls may share.
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply>;

    /// Applies one operation to each of many keys and returns one answer for each key, in the same
    /// order. The keys are distinct, and all operations of a batch are of one kind.
    ///
    /// # Errors
    /// As [`apply`](Tier::apply), for each key on its own.
    ///
    /// # Cost
    /// One round trip for each batch in Redis and Postgres. The default makes the single calls, 32 of
    /// them at a time.
    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let calls = batch.into_iter().map(|(key, op)| async move { self.apply(&key, op).await });
        stream::iter(calls.collect::<Vec<_>>()).buffered(32).collect().await
    }

    /// Makes every copy of the tenant dead by giving it a new epoch. A tier that was opened without a
    /// tenant clears the copies of all tenants of the namespace. The records of a store stay.
    ///
    /// Reads through this handle see the change at once, and reads through other handles within 100 ms, or
    /// at once where hits are copied into a nearer tier ([`Namespace::is_promoted`]).
    /// The server itself checks fills and writes against the new epoch.
    ///
    /// # Errors
    /// As [`apply`](Tier::apply).
    ///
    /// # Cost
    /// One round trip. The memory of the dead copies is reclaimed in the background.
    async fn clear(&self) -> Result<()>;

    /// Makes one round trip to the server, to see that it answers.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`], [`ErrorKind::Denied`].
    async fn ping(&self) -> Result<()>;

    /// Prepares the tier for use, and checks that all processes use the namespace with the same role and
    /// level. Their value types may differ. It also tries what the cache will do, and returns what is wrong
    /// with the server and only slows the cache. The default is a [`ping`](Tier::ping).
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] where another process uses the namespace with other settings. What stops
    /// the cache is an error with a finding ([`Error::finding`]), which is transient only where waiting can
    /// help.
    async fn ready(&self) -> Result<Vec<Finding>> {
        self.ping().await.map(|()| Vec::new())
    }

    /// Tells `watcher` from now on what the tier finds wrong with its server while it is in use. By default
    /// a tier tells nothing but the errors of its calls.
    fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        let _ = watcher;
    }

    /// Whether `apply`, `apply_many`, `clear` and `ping` themselves end within the budget of their
    /// [`Namespace`]. If not, the cache puts a timer around each call.
    fn keeps_budget(&self) -> bool {
        false
    }

    /// Whether a call that has begun, and that its caller holds without polling it, keeps no other call waiting. A
    /// call keeps others waiting if it holds a lock, a transaction or a connection of a pool across an await.
    ///
    /// Where all tiers of a cache say so, the callers of its writes poll these writes themselves, which saves two
    /// switches of threads. By default each write is a task, which is always polled.
    fn may_be_held(&self) -> bool {
        false
    }

    /// The backend's invalidation log. By default there is none: a near tier then keeps a copy that
    /// another process has changed until that copy expires.
    fn log(&self) -> Option<&dyn InvalidationLog> {
        None
    }

    /// What lets this process wait for a lease that another process holds. By default there is nothing
    /// of the kind: every process then loads for itself.
    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        None
    }

    /// The store's part of write-behind. By default there is none, and a cache with write-behind is refused.
    fn front_store(&self) -> Option<&dyn FrontStore> {
        None
    }

    /// The steps of a relay, where the tier can make each of them atomic. By default it cannot: a relay's
    /// watermark then proves no copy in this tier.
    fn publish(&self) -> Option<&dyn Publish> {
        None
    }
}

/// The error for a reply that does not fit its operation, which is a fault of the tier.
pub fn unexpected(reply: &Reply) -> Error {
    let name = match reply {
        Reply::Hit(_) => "a hit",
        Reply::Miss(_) => "a miss",
        Reply::Kept(_) => "kept",
        Reply::Refused(_) => "refused",
        Reply::TooOld => "too old",
        Reply::Done { .. } => "done",
    };
    Error::new(ErrorKind::Backend, format!("the tier answered {name}, which does not fit the operation"))
}
