//! How the tier of one namespace waits for leases: through the inbox of its handle.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use terrace_tier::{
    LeaseWaiter, Result, TierKey, Token,
    lease::{LeaseEnd, LeaseGuard, LeaseRef},
};

use crate::tier::PostgresTier;

impl LeaseWaiter for PostgresTier {
    /// The number of the space is known since the lease was given; where it was forgotten, the lease
    /// is gone too.
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard {
        match self.room.known_id() {
            Some(id) => self.room.shared.inbox.hold(LeaseRef { address: (id, key.digest), token }),
            None => LeaseGuard::new(drop),
        }
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>> {
        let (room, digest) = (Arc::clone(&self.room), key.digest);
        Box::pin(async move {
            let place = (room.id().await?, digest);
            room.shared.inbox.wait(LeaseRef { address: place, token }).await
        })
    }
}
