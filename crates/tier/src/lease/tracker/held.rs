//! The leases that a process holds, and which of them need a keep-alive.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{super::LeaseRef, table::Table};
use crate::Token;

/// The time between two keep-alives. A load that ends earlier costs no round trip.
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(400);
/// The most leases that one process keeps alive. The waiters of any other lease take over early.
const MAX_HELD: usize = 10_000;

pub(super) struct HeldLeases<P>(Mutex<Table<HeldLease<P>>>);

struct HeldLease<P> {
    lease: LeaseRef<P>,
    /// When the lease was added, then when the last keep-alive was sent.
    alive_at: Instant,
}

impl<P: Clone> HeldLeases<P> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Adds a lease. `task` sends the keep-alives as long as there are leases.
    pub(super) fn add<F>(&self, lease: &LeaseRef<P>, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut held = self.0.lock();
        if held.entries.len() < MAX_HELD {
            held.entries.insert(lease.token, HeldLease { lease: lease.clone(), alive_at: Instant::now() });
            held.serve(task);
        }
    }

    pub(super) fn remove(&self, token: Token) {
        self.0.lock().entries.remove(&token);
    }

    /// The leases that need a keep-alive now. `None` if no lease is held, and the task must end.
    pub(super) fn due(&self) -> Option<Vec<LeaseRef<P>>> {
        let now = Instant::now();
        let mut held = self.0.lock();
        if held.entries.is_empty() {
            held.task = None;
            return None;
        }
        let due = held.entries.values().filter(|held| now - held.alive_at >= KEEP_ALIVE_EVERY);
        Some(due.map(|held| held.lease.clone()).collect())
    }

    /// Notes that a keep-alive for `leases` was sent at `sent_at` and confirmed.
    pub(super) fn confirm(&self, leases: &[LeaseRef<P>], sent_at: Instant) {
        let mut held = self.0.lock();
        for lease in leases {
            if let Some(held) = held.entries.get_mut(&lease.token) {
                held.alive_at = sent_at;
            }
        }
    }
}
