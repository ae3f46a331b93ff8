//! What a server does for those who wait, and for those whom they wait for.

use std::{future::Future, time::Duration};

use crate::{Result, Token};

/// A lease at a server, `P` being what the server needs to find its cell.
#[derive(Clone, Debug)]
pub struct LeaseRef<P> {
    /// Where its cell is.
    pub place: P,
    /// The lease.
    pub token: Token,
}

/// What one look at a lease shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    /// The cell is live and holds this token, and its holder has shown a sign of life that counts.
    Alive,
    /// As `Alive`, without a sign that counts: none yet, or none for too long.
    Silent,
    /// The lease was given back.
    Free,
    /// The cell is gone, dead, or holds this token no more.
    Changed,
}

/// What a server does for those who wait: one trip a call.
pub trait Leases: Send + Sync + 'static {
    /// What finds a lease's cell at the server.
    type Place: Clone + Send + Sync + 'static;

    /// Looks at leases: one sight each, in order. A server that announces fills may take this as
    /// the word that this process waits for them, until a while after the last look.
    fn look(&self, leases: &[LeaseRef<Self::Place>])
    -> impl Future<Output = Result<Vec<LeaseStatus>>> + Send;

    /// Shows a sign of life for each lease that counts for `life`.
    fn sign(
        &self,
        leases: &[LeaseRef<Self::Place>],
        life: Duration,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Makes a lease [`LeaseStatus::Free`], for as long as any lease may live.
    fn give_back(&self, lease: &LeaseRef<Self::Place>) -> impl Future<Output = Result<()>> + Send;
}

/// How often an awaited lease is looked at: a quarter of the time that it was waited for, within
/// these.
#[derive(Clone, Copy, Debug)]
pub struct PollInterval {
    /// The shortest time between two looks.
    pub shortest: Duration,
    /// The longest; it adds to the 1.2 seconds after which a silent holder counts as gone.
    pub longest: Duration,
}
