//! How the tier of one namespace holds leases and waits for them, through the tracker of its handle.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use terrace_tier::{
    LeaseWaiter, Result, TierKey, Token,
    lease::{LeaseEnd, LeaseGuard, LeaseRef},
};

use crate::tier::PostgresTier;

impl LeaseWaiter for PostgresTier {
    /// The id has been known since the lease was granted. If it was forgotten later, the lease is gone too.
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard {
        match self.row.known_id() {
            Some(id) => self.row.shared.lease_tracker.hold(LeaseRef { address: (id, key.digest), token }),
            None => LeaseGuard::new(drop),
        }
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>> {
        let (row, digest) = (Arc::clone(&self.row), key.digest);
        Box::pin(async move {
            let address = (row.id().await?, digest);
            row.shared.lease_tracker.wait(LeaseRef { address, token }).await
        })
    }
}
