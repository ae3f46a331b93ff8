//! The contract of waiting for another process's load.
//!
//! A process that misses takes a lease and loads. Another process that misses the same key may wait for
//! that lease to end instead of loading too. If the holder dies, one of the waiting processes takes over.
//!
//! Waiting saves loads and fences nothing. If anything here is wrong, a fill still needs a live lease.
//!
//! | part | what it is for |
//! |---|---|
//! | [`LeaseWaiter`] | what a tier offers to a cache: hold a lease, wait for a lease |
//! | [`LeaseGuard`], [`LeaseEnd`] | what the two return |
//! | [`LeaseTracker`] | implements both over a [`LeaseBackend`], for all leases of a process at one server |
//! | [`LeaseBackend`] | three batched calls, which the author of a tier writes |
//! | [`LeaseNotifier`] | passes on the announcements of a server, where it makes any |

mod backend;
mod tracker;

pub use backend::{LeaseBackend, LeaseRef, LeaseStatus, PollInterval};
pub use tracker::{LeaseNotifier, LeaseTracker};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::{Result, TierKey, Token};

/// How a lease ended that a process has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// The lease no longer lives: it was filled, something else was written, or it expired. The caller
    /// reads again.
    Changed,
    /// The holder released the lease or sends no keep-alive. A caller that names the lease as `replaces`
    /// in [`Op::Lease`](crate::Op::Lease) may take over.
    Free,
}

/// A tier whose leases processes can wait for. It is reached from
/// [`Tier::lease_waiter`](crate::Tier::lease_waiter).
///
/// A [`LeaseTracker`] implements it over three batched calls.
pub trait LeaseWaiter: Send + Sync {
    /// Keeps the lease `token` of `key` alive, since this process works on it, until the guard is dropped.
    ///
    /// # Cost
    /// No round trip while the lease is held for less than 400 ms. After that, all leases that this process
    /// holds share one round trip every 400 ms.
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard;

    /// Waits until the lease `token` of `key`, which another process holds, has ended. It has no time limit
    /// of its own, since the caller has one. The future may be dropped at any time.
    ///
    /// # Errors
    /// The errors of the server, and [`ErrorKind::Busy`](crate::ErrorKind::Busy) where this process waits
    /// for too many leases. The caller then loads for itself.
    ///
    /// # Cost
    /// One round trip at the start. After that, all waiters of this process share one now and then.
    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>>;
}

/// Keeps a lease alive. If it is dropped before [`settle`](Self::settle), the lease is released, and one of
/// the waiting processes takes over.
#[must_use = "a guard that is dropped releases the lease"]
pub struct LeaseGuard(Mutex<Option<OnEnd>>);

/// Called with true if the guard was settled, and with false if it was dropped before.
type OnEnd = Box<dyn FnOnce(bool) + Send>;

impl LeaseGuard {
    /// A guard that calls `on_end` once: with true when it is settled, or with false when it is dropped
    /// before that.
    pub fn new(on_end: impl FnOnce(bool) + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(on_end))))
    }

    /// Says that the tier has answered the fill. Whether it took the fill or not, the lease has ended.
    pub fn settle(&self) {
        self.end(true);
    }

    fn end(&self, settled: bool) {
        let on_end = self.0.lock().take();
        if let Some(on_end) = on_end {
            on_end(settled);
        }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.end(false);
    }
}
