//! The invalidation log: one task per process polls the outbox, on a connection of its own.

pub(crate) mod followers;
pub(crate) mod invalidate;
mod outbox;
mod poller;
mod replay;

use std::sync::{Arc, Weak};

use terrace_tier::{Follower, InvalidationLog, Replay};

use crate::connection::shared::Shared;

/// The log of a handle, for its tiers.
pub(crate) struct Log(pub(crate) Arc<Shared>);

impl InvalidationLog for Log {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        let start_poller = || tokio::spawn(poller::run(Arc::downgrade(&self.0)));
        self.0.followers.add(namespace, follower, start_poller);
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}
