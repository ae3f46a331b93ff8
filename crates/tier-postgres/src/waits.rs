//! How the tier of one namespace waits for leases: through the inbox of its handle.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use terrace_core::{
    Result, TierKey, Token, Waits,
    waiting::{Awaited, Ended, Hold},
};

use crate::tier::PostgresTier;

impl Waits for PostgresTier {
    /// The number of the space is known since the lease was given; where it was forgotten, the lease
    /// is gone too.
    fn hold(&self, key: &TierKey, token: Token) -> Hold {
        match self.room.known_id() {
            Some(id) => self.room.shared.inbox.hold(Awaited { place: (id, key.digest), token }),
            None => Hold::new(drop),
        }
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<Ended>> {
        let (room, digest) = (Arc::clone(&self.room), key.digest);
        Box::pin(async move {
            let place = (room.id().await?, digest);
            room.shared.inbox.wait(Awaited { place, token }).await
        })
    }
}
