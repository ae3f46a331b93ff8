//! What the tier answers to those who wait for a lease: the inbox of its process.

use futures_util::future::BoxFuture;
use terrace_core::{
    Result, TierKey, Token, Waits,
    waiting::{Awaited, Ended, Hold},
};

use crate::{leases::Place, tier::RedisTier};

impl Waits for RedisTier {
    fn hold(&self, key: &TierKey, token: Token) -> Hold {
        self.inbox.hold(Awaited { place: self.place(key), token })
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<Ended>> {
        self.inbox.wait(Awaited { place: self.place(key), token })
    }
}

impl RedisTier {
    fn place(&self, key: &TierKey) -> Place {
        let layout = &self.state.layout;
        Place { cell: layout.cell(key), epochs: layout.epochs() }
    }
}
