//! The leases that a process holds, and whose sign of life is due.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{super::LeaseRef, table::Table};
use crate::Token;

/// How often a holder shows a sign of life; a load that is over before costs no trip.
const SIGN_EVERY: Duration = Duration::from_millis(400);
/// Leases of one process that show signs of life; waiters of those beyond take over early.
const MOST: usize = 10_000;

pub(super) struct HeldLeases<P>(Mutex<Table<Held<P>>>);

struct Held<P> {
    lease: LeaseRef<P>,
    /// Of the grant, then of the last sign.
    signed_at: Instant,
}

impl<P: Clone> HeldLeases<P> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Adds a lease; `task` shows signs of life for as long as there are any.
    pub(super) fn add<F>(&self, lease: &LeaseRef<P>, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut held = self.0.lock();
        if held.entries.len() < MOST {
            held.entries.insert(lease.token, Held { lease: lease.clone(), signed_at: Instant::now() });
            held.serve(task);
        }
    }

    pub(super) fn remove(&self, token: Token) {
        self.0.lock().entries.remove(&token);
    }

    /// The leases whose sign of life is due; `None` once nothing is held, and the task is to end.
    pub(super) fn unsigned(&self) -> Option<Vec<LeaseRef<P>>> {
        let now = Instant::now();
        let mut held = self.0.lock();
        if held.entries.is_empty() {
            held.task = None;
            return None;
        }
        let due = held.entries.values().filter(|held| now - held.signed_at >= SIGN_EVERY);
        Some(due.map(|held| held.lease.clone()).collect())
    }

    pub(super) fn signed(&self, leases: &[LeaseRef<P>], at: Instant) {
        let mut held = self.0.lock();
        for lease in leases {
            if let Some(held) = held.entries.get_mut(&lease.token) {
                held.signed_at = at;
            }
        }
    }
}
