//! The keep-alives that the server of a fake has for leases.

use std::{collections::HashMap, time::Duration};

use terrace_tier::{Token, lease::LeaseStatus};
use tokio::time::Instant;

/// The last keep-alive of each lease whose holder sent one, and the released leases.
#[derive(Default)]
pub(crate) struct KeepAlives(HashMap<Token, KeepAlive>);

enum KeepAlive {
    AliveUntil(Instant),
    Released,
}

impl KeepAlives {
    /// The status of a lease that the tier still has, by its last keep-alive.
    pub(super) fn status(&self, token: Token) -> LeaseStatus {
        match self.0.get(&token) {
            Some(KeepAlive::Released) => LeaseStatus::Free,
            Some(KeepAlive::AliveUntil(end)) if Instant::now() < *end => LeaseStatus::Alive,
            _ => LeaseStatus::Silent,
        }
    }

    /// From now on the holders of these leases count as alive, for the time `life`.
    pub(super) fn renew(&mut self, tokens: impl Iterator<Item = Token>, life: Duration) {
        self.0.extend(tokens.map(|token| (token, KeepAlive::AliveUntil(Instant::now() + life))));
    }

    pub(super) fn release(&mut self, token: Token) {
        self.0.insert(token, KeepAlive::Released);
    }
}
