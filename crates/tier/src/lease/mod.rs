//! The contract of waiting for another process's load: which lease is worked on, and what became
//! of it.
//!
//! Waiting saves loads; it fences nothing. Whatever is said here wrongly, a fill is still taken
//! over a live lease alone.

mod backend;
mod tracker;

pub use backend::{LeaseRef, LeaseStatus, Leases, PollInterval};
pub use tracker::{LeaseNotifier, LeaseTracker};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::{Result, TierKey, Token};

/// What became of a lease that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// It lives no more: it was filled, something else was written, or it ran out. Look again.
    Changed,
    /// Its holder gave it back, or shows no sign of life. Whoever names it in
    /// [`Op::Lease`](crate::Op::Lease) as `replaces` may take its place.
    Free,
}

/// A tier whose leases processes can wait for. Reached from [`Tier::lease_waiter`](crate::Tier::lease_waiter).
///
/// [`LeaseTracker`] makes one of three batched calls.
pub trait LeaseWaiter: Send + Sync {
    /// Says that this process works on the lease `token` of `key`, until the guard is dropped.
    ///
    /// # Cost
    /// No trip while it is held for less than 400 ms; then all leases that this process holds share
    /// one trip each 400 ms.
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard;

    /// Waits until the lease `token` of `key`, which another one holds, has ended. No bound of its
    /// own: the caller has one. Dropped, it leaves nothing behind.
    ///
    /// # Errors
    /// The server's, and [`ErrorKind::Busy`](crate::ErrorKind::Busy) where too many leases are
    /// waited for: the caller then loads for itself.
    ///
    /// # Cost
    /// One trip to begin with, and now and then one that all waiters of this process share.
    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>>;
}

/// The word that a lease is worked on; dropped unsettled, the lease is given back, and one of those
/// who wait for it takes its place.
#[must_use = "a hold that is dropped gives the lease back"]
pub struct LeaseGuard(Mutex<Option<End>>);

/// Told how a hold ended: whether it was settled.
type End = Box<dyn FnOnce(bool) + Send>;

impl LeaseGuard {
    /// A guard that calls `end` once: with true when it is settled, with false when it is dropped
    /// before.
    pub fn new(end: impl FnOnce(bool) + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(end))))
    }

    /// The tier has answered the fill: whether it took it or not, the lease is no more.
    pub fn settle(&self) {
        self.end(true);
    }

    fn end(&self, settled: bool) {
        let end = self.0.lock().take();
        if let Some(end) = end {
            end(settled);
        }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.end(false);
    }
}
