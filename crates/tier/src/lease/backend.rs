//! What a server does so that processes can wait for leases.

use std::{future::Future, time::Duration};

use crate::{Result, Token};

/// A lease at a server.
///
/// `P` is all that the server needs to find the lease's cell. What else a server wants to know of a lease
/// belongs in `P`, so these two fields are all that there will be.
#[derive(Clone, Debug)]
pub struct LeaseRef<P> {
    /// The address of the lease's cell.
    pub address: P,
    /// The token of the lease.
    pub token: Token,
}

/// What a server says of a lease when it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseStatus {
    /// The cell is live and holds this token, and the last keep-alive of its holder still counts.
    Alive,
    /// The cell is live and holds this token, but there was no keep-alive yet, or the last one has expired.
    Silent,
    /// The holder has released the lease.
    Free,
    /// The cell is gone or dead, or holds another token.
    Changed,
}

/// What a server does so that processes can wait for leases. Each call is one round trip.
pub trait LeaseBackend: Send + Sync + 'static {
    /// What finds the cell of a lease at the server.
    type Address: Clone + Send + Sync + 'static;

    /// The tier, and the names of the caches whose leases these are, for the log. By default both are empty.
    fn log_names(&self) -> (&str, String) {
        ("", String::new())
    }

    /// The status of each lease, in order. A server that announces fills may conclude that this process
    /// waits for these leases, until some time after the last poll.
    ///
    /// # Errors
    /// The errors of the server. Every waiter of these leases gets them.
    fn poll(
        &self,
        leases: &[LeaseRef<Self::Address>],
    ) -> impl Future<Output = Result<Vec<LeaseStatus>>> + Send;

    /// Records for each lease that its holder is alive, which counts for `life`.
    ///
    /// # Errors
    /// The errors of the server. The call is repeated soon.
    fn keep_alive(
        &self,
        leases: &[LeaseRef<Self::Address>],
        life: Duration,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Makes a lease [`LeaseStatus::Free`], for as long as any lease may live.
    ///
    /// # Errors
    /// The errors of the server. The lease is then [`LeaseStatus::Silent`] after a while.
    fn release(&self, lease: &LeaseRef<Self::Address>) -> impl Future<Output = Result<()>> + Send;
}

/// How often a lease is polled: at a quarter of the time for which it was waited, within these bounds.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PollInterval {
    /// The shortest time between two polls.
    pub shortest: Duration,
    /// The longest time between two polls. It adds to the 1.2 seconds after which a silent holder counts as
    /// gone.
    pub longest: Duration,
}

impl PollInterval {
    /// An interval between these two.
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest }
    }
}
