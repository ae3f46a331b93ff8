//! What the tier answers to those who wait for a lease: the inbox of its process.

use futures_util::future::BoxFuture;
use terrace_tier::{
    LeaseWaiter, Result, TierKey, Token,
    lease::{LeaseEnd, LeaseGuard, LeaseRef},
};

use crate::{leases::Place, tier::RedisTier};

impl LeaseWaiter for RedisTier {
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard {
        self.inbox.hold(LeaseRef { address: self.place(key), token })
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>> {
        self.inbox.wait(LeaseRef { address: self.place(key), token })
    }
}

impl RedisTier {
    fn place(&self, key: &TierKey) -> Place {
        let layout = &self.state.layout;
        Place { cell: layout.cell(key), epochs: layout.epochs() }
    }
}
