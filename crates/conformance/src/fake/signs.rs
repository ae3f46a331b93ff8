//! The signs of life that the server of a fake keeps for leases.

use std::{collections::HashMap, time::Duration};

use terrace_tier::{Token, lease::LeaseStatus};
use tokio::time::Instant;

/// The last sign of life for each lease whose holder gave one.
#[derive(Default)]
pub(crate) struct Signs(HashMap<Token, Sign>);

enum Sign {
    AliveUntil(Instant),
    GivenBack,
}

impl Signs {
    /// The status of a lease that the tier still holds, by its last sign of life.
    pub(super) fn status(&self, token: Token) -> LeaseStatus {
        match self.0.get(&token) {
            Some(Sign::GivenBack) => LeaseStatus::Free,
            Some(Sign::AliveUntil(end)) if Instant::now() < *end => LeaseStatus::Alive,
            _ => LeaseStatus::Silent,
        }
    }

    /// From now on the holders of these leases count as alive, for the time `life`.
    pub(super) fn renew(&mut self, tokens: impl Iterator<Item = Token>, life: Duration) {
        self.0.extend(tokens.map(|token| (token, Sign::AliveUntil(Instant::now() + life))));
    }

    pub(super) fn give_back(&mut self, token: Token) {
        self.0.insert(token, Sign::GivenBack);
    }
}
