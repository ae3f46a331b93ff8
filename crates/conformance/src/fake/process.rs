//! What one process has of a [`Fake`](super::Fake): whether it runs, and the leases that it holds
//! and waits for.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{
    Error, ErrorKind, Result, Token,
    lease::{LeaseBackend, LeaseRef, LeaseStatus, LeaseTracker, PollInterval},
};
use tokio::{sync::watch, time::Instant};

use super::{Address, Server};

/// One handle of a fake.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) stopped: Arc<watch::Sender<bool>>,
    pub(crate) inbox: LeaseTracker<FakeLeases>,
}

/// The signs of life that the server keeps.
#[derive(Default)]
pub(crate) struct Signs(HashMap<Token, Sign>);

enum Sign {
    AliveUntil(Instant),
    GivenBack,
}

/// The fake as those who wait use it.
pub(crate) struct FakeLeases {
    server: Weak<Server>,
    stopped: Arc<watch::Sender<bool>>,
}

const PACE: PollInterval = PollInterval::new(Duration::from_millis(10), Duration::from_millis(100));

impl Process {
    pub(crate) fn new(server: &Arc<Server>) -> Self {
        let stopped = Arc::new(watch::Sender::new(false));
        let leases = FakeLeases { server: Arc::downgrade(server), stopped: Arc::clone(&stopped) };
        Self { stopped, inbox: LeaseTracker::new(leases, PACE) }
    }

    /// What a call goes through before it is carried out.
    pub(crate) async fn trip(&self, server: &Server) -> Result<()> {
        goes_on(&self.stopped).await;
        server.trip().await
    }
}

async fn goes_on(stopped: &watch::Sender<bool>) {
    if *stopped.borrow() {
        // The sender lives as long as this call.
        let _ = stopped.subscribe().wait_for(|stopped| !stopped).await;
    }
}

impl FakeLeases {
    async fn reached(&self) -> Result<Arc<Server>> {
        goes_on(&self.stopped).await;
        let gone = || Error::new(ErrorKind::Closed, "the fake is gone");
        let server = self.server.upgrade().ok_or_else(gone)?;
        server.trip().await?;
        Ok(server)
    }
}

impl LeaseBackend for FakeLeases {
    type Address = Address;

    async fn poll(&self, leases: &[LeaseRef<Address>]) -> Result<Vec<LeaseStatus>> {
        let server = self.reached().await?;
        let (data, signs) = (server.data.lock(), server.signs.lock());
        let sight = |lease: &LeaseRef<Address>| match signs.0.get(&lease.token) {
            _ if !server.is_leased(&data, &lease.address, lease.token) => LeaseStatus::Changed,
            Some(Sign::GivenBack) => LeaseStatus::Free,
            Some(Sign::AliveUntil(end)) if Instant::now() < *end => LeaseStatus::Alive,
            _ => LeaseStatus::Silent,
        };
        Ok(leases.iter().map(sight).collect())
    }

    async fn keep_alive(&self, leases: &[LeaseRef<Address>], life: Duration) -> Result<()> {
        let server = self.reached().await?;
        let alive = |lease: &LeaseRef<Address>| (lease.token, Sign::AliveUntil(Instant::now() + life));
        server.signs.lock().0.extend(leases.iter().map(alive));
        Ok(())
    }

    async fn release(&self, lease: &LeaseRef<Address>) -> Result<()> {
        let server = self.reached().await?;
        server.signs.lock().0.insert(lease.token, Sign::GivenBack);
        Ok(())
    }
}
