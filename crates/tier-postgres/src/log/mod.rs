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
        self.0.followers.add(namespace, follower);
        self.keep_following();
    }

    fn keep_following(&self) {
        self.0.followers.keep_polling(|| poller::run(Arc::downgrade(&self.0)));
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}
