//! The state that one process has of a [`Fake`](super::Fake): whether the process runs, and the leases
//! that it holds or waits for, and the epochs that it has heard.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{
    Error, ErrorKind, Result,
    lease::{LeaseBackend, LeaseRef, LeaseStatus, LeaseTracker, PollInterval},
};
use tokio::sync::watch;

use super::{Address, Server, epochs::HeardEpochs};

/// One handle of a fake.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) stopped: Arc<watch::Sender<bool>>,
    pub(crate) lease_tracker: LeaseTracker<FakeLeases>,
    pub(crate) epochs: HeardEpochs,
}

/// The fake's server as the lease tracker of one process reaches it.
pub(crate) struct FakeLeases {
    server: Weak<Server>,
    stopped: Arc<watch::Sender<bool>>,
}

const POLL_INTERVAL: PollInterval = PollInterval::new(Duration::from_millis(10), Duration::from_millis(100));

impl Process {
    pub(crate) fn new(server: &Arc<Server>) -> Self {
        let stopped = Arc::new(watch::Sender::new(false));
        let leases = FakeLeases { server: Arc::downgrade(server), stopped: Arc::clone(&stopped) };
        Self {
            stopped,
            lease_tracker: LeaseTracker::new(leases, POLL_INTERVAL),
            epochs: HeardEpochs::default(),
        }
    }

    /// Delays or fails a call before it is carried out, as the test has set this process and its server.
    pub(crate) async fn trip(&self, server: &Server) -> Result<()> {
        until_running(&self.stopped).await;
        server.trip().await
    }
}

async fn until_running(stopped: &watch::Sender<bool>) {
    if *stopped.borrow() {
        // The sender lives as long as this call.
        let _ = stopped.subscribe().wait_for(|stopped| !stopped).await;
    }
}

impl FakeLeases {
    async fn reached(&self) -> Result<Arc<Server>> {
        until_running(&self.stopped).await;
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
        let (data, keep_alives) = (server.data.lock(), server.keep_alives.lock());
        let status = |lease: &LeaseRef<Address>| match server.is_leased(&data, &lease.address, lease.token) {
            true => keep_alives.status(lease.token),
            false => LeaseStatus::Changed,
        };
        Ok(leases.iter().map(status).collect())
    }

    async fn keep_alive(&self, leases: &[LeaseRef<Address>], life: Duration) -> Result<()> {
        let server = self.reached().await?;
        server.keep_alives.lock().renew(leases.iter().map(|lease| lease.token), life);
        Ok(())
    }

    async fn release(&self, lease: &LeaseRef<Address>) -> Result<()> {
        let server = self.reached().await?;
        server.keep_alives.lock().release(lease.token);
        Ok(())
    }
}
