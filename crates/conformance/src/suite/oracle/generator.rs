//! The random operations of the oracle.

use std::time::Duration;

use bytes::Bytes;
use terrace_tier::{Condition, Deadlines, Fence, Op, Order, Role, Timestamp, Token, Version};

use super::Oracle;
use crate::{calls::Call, suite::bench::LONG};

impl Oracle {
    pub(super) fn kind(&mut self) -> Call {
        match (self.rng.u8(..20), self.bench.role()) {
            (0..2, _) => Call::Get,
            (2..7, _) => Call::Lease,
            (7..12, _) => Call::Fill,
            (12..16, _) => Call::Put,
            (16, _) => Call::Remove,
            (17, _) => Call::Expire,
            (_, Role::Cache) => Call::Invalidate,
            (_, Role::Store) => Call::Remove,
        }
    }

    pub(super) fn op(&mut self, slot: usize, call: Call) -> Op {
        let cache = self.bench.role() == Role::Cache;
        match call {
            Call::Lease => {
                let over = (cache && self.rng.bool()).then(|| self.version(slot));
                let replaces = if self.rng.u8(..3) == 0 { self.fence(slot).token } else { Token::NONE };
                Op::Lease { token: Token::from_u64(self.rng.u64(1..)), ttl: self.ttl(), over, replaces }
            }
            Call::Fill => {
                let fence = self.fence(slot);
                let version = if self.rng.u8(..4) == 0 { self.version(slot) } else { fence.version };
                Op::Fill { fence, version, deadlines: self.deadlines(), body: self.body() }
            }
            Call::Put => {
                let order = self.order(slot, cache);
                Op::Put { order, deadlines: self.deadlines(), body: self.body(), tombstone_ttl: self.ttl() }
            }
            Call::Invalidate => {
                let version = self.rng.bool().then(|| self.version(slot));
                Op::Invalidate { version, tombstone_ttl: self.ttl() }
            }
            Call::Remove => Op::Remove { tombstone_ttl: self.ttl() },
            Call::Expire => Op::Expire { deadlines: self.deadlines() },
            _ => Op::Get,
        }
    }

    fn order(&mut self, slot: usize, cache: bool) -> Order {
        let choice = self.rng.u8(..if cache { 10 } else { 6 });
        match choice {
            0..3 => Order::Author(Condition::Always),
            3 => Order::Author(Condition::Absent),
            4..6 => Order::Author(Condition::Version(self.version(slot))),
            6..9 => Order::Follow(self.version(slot)),
            _ => Order::Unfenced(self.version(slot)),
        }
    }

    /// One of the key's latest fences, or rarely a fence that no reply gave.
    fn fence(&mut self, slot: usize) -> Fence {
        let fences = &self.slots[slot].fences;
        let recent = fences.len().min(3);
        if recent == 0 || self.rng.u8(..10) == 0 {
            let token = Token::from_u64(self.rng.u64(..));
            return Fence { token, version: self.version(slot) };
        }
        fences[fences.len() - 1 - self.rng.usize(..recent)]
    }

    /// One of the key's latest versions or the version next to it; rarely 10 s more.
    fn version(&mut self, slot: usize) -> Version {
        let versions = &self.slots[slot].versions;
        let recent = versions.len().min(3);
        let near = match recent {
            0 => self.bench.now().as_millis().saturating_mul(1000),
            _ => versions[versions.len() - 1 - self.rng.usize(..recent)].as_u64(),
        };
        let ahead_of_the_clock = if self.rng.u8(..10) == 0 { 10_000_000 } else { 0 };
        Version::from_u64((near + ahead_of_the_clock + self.rng.u64(..3)).saturating_sub(1))
    }

    /// Long enough that the duration of the run does not matter; also short on a manual clock.
    pub(super) fn ttl(&mut self) -> Duration {
        match self.rng.u8(..5) {
            1 if self.bench.subject.virtual_time => Duration::from_millis(1),
            2 if self.bench.subject.virtual_time => Duration::from_millis(1500),
            3 if self.bench.subject.virtual_time => LONG * 3,
            _ => LONG,
        }
    }

    /// Deadlines far in the future or long past.
    fn deadlines(&mut self) -> Deadlines {
        let now = self.bench.now();
        let later = |millis: u64| now.after(LONG + Duration::from_millis(millis));
        match self.rng.u8(..8) {
            0 => Deadlines::forever(now),
            1 => Deadlines::ttl(Timestamp::from_millis(now.as_millis().saturating_sub(5000)), Duration::ZERO),
            2 => {
                let (fresh, stale) = (self.rng.u64(..1000), self.rng.u64(1000..2000));
                Deadlines {
                    written: now,
                    fresh_until: later(fresh),
                    stale_until: later(stale),
                    expires_at: later(3000),
                }
            }
            _ => Deadlines::ttl(now, self.ttl()),
        }
    }

    fn body(&mut self) -> Option<Bytes> {
        (self.rng.u8(..6) > 0).then(|| Bytes::from(format!("body {}", self.log.len())))
    }
}
