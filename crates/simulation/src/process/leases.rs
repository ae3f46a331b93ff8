//! Waiting for another process's lease: how a process asks a server.

use std::{sync::Arc, time::Duration};

use terrace_conformance::parts::Address;
use terrace_tier::{
    Result,
    lease::{LeaseBackend, LeaseStatus, LeaseTracker, PollInterval},
};

use crate::{
    message::{Lease, Link, Listener, Request, Response, mismatch},
    network::Network,
};

/// The interval of the Redis tier, which announces the ends of leases too.
const INTERVAL: PollInterval = PollInterval::new(Duration::from_millis(100), Duration::from_millis(150));

/// The leases of a server, over the network.
pub(crate) struct RemoteLeases {
    network: Arc<Network>,
    listener: Listener,
}

impl RemoteLeases {
    /// The lease tracker of a process at a server.
    pub(crate) fn tracker(network: &Arc<Network>, link: Link) -> LeaseTracker<Self> {
        let network = Arc::clone(network);
        LeaseTracker::with_notifier(
            |notifier| {
                let notify = Arc::new(move |token, end| notifier.notify(token, end));
                Self { network, listener: Listener { link, notify } }
            },
            INTERVAL,
        )
    }

    /// The lease tracker limits how long this takes.
    async fn ask(&self, request: Request) -> Response {
        self.network.ask(self.listener.link, request).await
    }
}

impl LeaseBackend for RemoteLeases {
    type Address = Address;

    async fn poll(&self, leases: &[Lease]) -> Result<Vec<LeaseStatus>> {
        self.network.recorder.count(|counts| counts.looks += 1);
        match self.ask(Request::Look(leases.to_vec(), self.listener.clone())).await {
            Response::Statuses(statuses) => statuses,
            _ => Err(mismatch()),
        }
    }

    async fn keep_alive(&self, leases: &[Lease], life: Duration) -> Result<()> {
        self.ask(Request::Sign(leases.to_vec(), life)).await.done()
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.ask(Request::GiveBack(lease.clone())).await.done()
    }
}
