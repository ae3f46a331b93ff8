//! Fills send copies to the cache tiers, far to near, each with the fence of its tier.

mod share;

use std::sync::Arc;

use bytes::Bytes;
use terrace_tier::{
    ErrorKind, Op, Order, Reply, Stored, TierKey, Version,
    defence::{Defence, enabled},
    lease::LeaseGuard,
};

use super::Fences;
use crate::{
    Event, Key, Result, Value,
    cache::Inner,
    chain::{Chain, FULL_BUDGET, TierSlot},
    flight::FlightId,
    near::{Near, TenantKey},
    write::UnfencedFill,
};

/// A copy for the tiers that gave a fence for its key.
pub(crate) struct TierCopy {
    pub(crate) key: TierKey,
    pub(crate) fences: Fences,
    /// Whether a tier has an older entry, which must not stay in a tier that does not keep this copy.
    pub(crate) renews: bool,
    /// Whether the cell may hold values of other types, which stay beside this one.
    pub(crate) shares: bool,
    /// The lease that other processes wait for. The lease is given back if no tier answers the fill.
    pub(crate) lease: Option<TierLease>,
    pub(crate) stored: Stored,
    /// The record of the fill at level `Ttl`. This record delays writes of the key until the copy is
    /// dropped.
    pub(crate) unfenced: Option<UnfencedFill>,
}

/// The lease that a load of this process holds, in the tier where other processes wait for the load.
pub(crate) struct TierLease {
    /// The tier's index in the chain.
    index: usize,
    guard: LeaseGuard,
}

impl TierLease {
    pub(super) fn new(index: usize, guard: LeaseGuard) -> Self {
        Self { index, guard }
    }
}

impl TierCopy {
    /// Ends the lease of the tier at this index, since the tier has answered the fill.
    fn settle(&self, index: usize) {
        if let Some(lease) = self.lease.as_ref().filter(|lease| lease.index == index) {
            lease.guard.settle();
        }
    }

    fn size(&self) -> Option<usize> {
        self.stored.body.as_ref().map(Bytes::len)
    }
}

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FillOutcome {
    /// No tier has refused the fill.
    Kept,
    /// A tier refused the fill, because the key has changed since the lookup.
    Refused,
    /// The authority did not answer the fill.
    Unconfirmed,
}

/// The number of tasks of one cache beyond which fills in the background are skipped.
const MAX_TASKS: usize = 10_000;

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Whether the copy of a flight's value may be sent to the tiers. With leases the tiers themselves
    /// refuse a copy that is too old.
    pub(super) fn begin_fill(&self, key: &TenantKey<K>, flight: FlightId, copy: &mut TierCopy) -> bool {
        let Some(fills) = self.fencing.unfenced() else { return true };
        copy.unfenced = fills.begin(&copy.key);
        copy.unfenced.is_some() && self.flights.is_undisturbed(key, flight)
    }

    /// Fills the tiers in the background.
    pub(super) fn fill_later(self: &Arc<Self>, chain: &Arc<Chain>, mut copies: Vec<TierCopy>) {
        if copies.is_empty() {
            return;
        }
        if self.tasks.running() >= MAX_TASKS {
            self.tell(&Event::FillSkipped);
            // The older entries that these copies would replace must not be read, either.
            for copy in copies.iter().filter(|copy| copy.renews) {
                let slots = chain.tiers.iter().enumerate().filter(|&(at, _)| copy.fences.get(at).is_some());
                slots.for_each(|(_, slot)| slot.owe(&copy.key));
            }
            return;
        }
        let (inner, chain) = (Arc::clone(self), Arc::clone(chain));
        let _detached = self.tasks.spawn(async move { inner.fill(&chain, &mut copies).await });
    }

    /// Fills the tiers from far to near. A copy that a tier refuses is not sent to the nearer tiers.
    pub(super) async fn fill(&self, chain: &Chain, copies: &mut [TierCopy]) -> Vec<FillOutcome> {
        let mut outcomes = vec![FillOutcome::Kept; copies.len()];
        for (index, slot) in chain.tiers.iter().enumerate().rev() {
            let authority = chain.store.is_none() && index + 1 == chain.tiers.len();
            let (wanted, mut unkept): (Vec<usize>, Vec<usize>) = (0..copies.len())
                .filter(|&at| outcomes[at] == FillOutcome::Kept && copies[at].fences.get(index).is_some())
                .partition(|&at| self.is_wanted(slot, &copies[at]));
            if authority {
                self.share_cells(slot, copies, &wanted).await;
            }
            let batch = wanted.iter().map(|&at| self.fill_op(slot, index, &copies[at])).collect();
            for (&at, reply) in wanted.iter().zip(slot.call_many(FULL_BUDGET, batch).await) {
                match &reply {
                    Ok(_) => copies[at].settle(index),
                    Err(error) => {
                        if error.kind() == ErrorKind::TooLarge {
                            unkept.push(at);
                        }
                        if copies[at].renews || self.fencing.may_arrive_late(error.kind()) {
                            slot.owe(&copies[at].key);
                        }
                    }
                }
                outcomes[at] = self.fill_outcome(slot, authority, &reply);
            }
            if authority && self.fencing.has_leases() && enabled(Defence::Confirm) {
                self.confirm(slot, index, copies, &unkept, &mut outcomes).await;
            }
            if enabled(Defence::DropReplaced) {
                self.drop_replaced(chain, slot, copies, &unkept).await;
            }
            if !authority && self.fencing.has_leases() && enabled(Defence::Outdate) {
                self.replace_older(chain, slot, copies, &wanted, &mut outcomes).await;
            }
        }
        outcomes
    }

    /// Replaces entries that are older than a refused fill. A tier also refuses a fill when another
    /// reader has filled the key first, with a value that the authority may since have replaced by the
    /// value of this fill.
    async fn replace_older(
        &self,
        chain: &Chain,
        slot: &TierSlot,
        copies: &[TierCopy],
        wanted: &[usize],
        outcomes: &mut [FillOutcome],
    ) {
        let is_refused = |at: &usize| outcomes[*at] == FillOutcome::Refused;
        let refused: Vec<usize> = wanted.iter().copied().filter(is_refused).collect();
        let batch = refused.iter().map(|&at| {
            let Stored { version, deadlines, body, .. } = copies[at].stored.clone();
            let deadlines = self.copy_deadlines(deadlines, slot.shared.ttl);
            let (order, tombstone_ttl) = (Order::Follow(version), self.periods.tombstone);
            (copies[at].key.clone(), Op::Put { order, deadlines, body, tombstone_ttl })
        });
        let replies = slot.call_many(FULL_BUDGET, batch.collect()).await;
        let mut older = Vec::new();
        for (at, reply) in refused.into_iter().zip(replies) {
            match reply {
                Ok(Reply::Kept(_)) => {
                    slot.shared.tell(&Event::Filled { tier: slot.shared.name });
                    outcomes[at] = FillOutcome::Kept;
                }
                Ok(Reply::Refused(Some(kept)))
                    if chain.may_be_older(kept.version, copies[at].stored.version) =>
                {
                    older.push(at);
                }
                Ok(_) => {}
                Err(_) => slot.owe(&copies[at].key),
            }
        }
        self.drop_replaced(chain, slot, copies, &older).await;
    }

    /// Asks the authority about the copies that it will not keep, with a fill that expires at once. The
    /// expired fill uses up the lease, and the authority refuses the fill if the key has changed.
    /// Without this confirmation, the near tier could keep a value that another process has invalidated.
    async fn confirm(
        &self,
        slot: &TierSlot,
        index: usize,
        copies: &[TierCopy],
        unkept: &[usize],
        outcomes: &mut [FillOutcome],
    ) {
        let expired_fill = |&at: &usize| {
            let version = copies[at].stored.version;
            let fence = copies[at].fences.get(index).unwrap_or_default();
            (copies[at].key.clone(), Op::Fill { fence, version, deadlines: self.no_life(), body: None })
        };
        let replies = slot.call_many(FULL_BUDGET, unkept.iter().map(expired_fill).collect()).await;
        for (&at, reply) in unkept.iter().zip(replies) {
            if reply.is_ok() {
                copies[at].settle(index);
            }
            outcomes[at] = match reply {
                Ok(Reply::Kept(_)) => FillOutcome::Kept,
                Ok(_) => FillOutcome::Refused,
                Err(_) => FillOutcome::Unconfirmed,
            };
        }
    }

    /// Drops the older entries of copies that the tier will not keep or did not take.
    async fn drop_replaced(&self, chain: &Chain, slot: &TierSlot, copies: &[TierCopy], unkept: &[usize]) {
        let replaced: Vec<&TierCopy> =
            unkept.iter().map(|&at| &copies[at]).filter(|copy| copy.renews).collect();
        let batch = replaced.iter().map(|copy| {
            // Neither an absent record nor a copy of level `Ttl` has a version to compare with, nor does a copy in
            // a follower where no store orders the versions.
            let known = self.fencing.has_leases()
                && copy.stored.version != Version::NONE
                && (chain.store.is_some() || chain.is_authority(slot));
            let version = known.then_some(copy.stored.version);
            (copy.key.clone(), Op::Invalidate { version, tombstone_ttl: self.periods.tombstone })
        });
        let replies = slot.call_many(FULL_BUDGET, batch.collect()).await;
        for (copy, reply) in replaced.into_iter().zip(replies) {
            if reply.is_err() {
                slot.owe(&copy.key);
            }
        }
    }

    fn is_wanted(&self, slot: &TierSlot, copy: &TierCopy) -> bool {
        let alive = self.clock.now() < copy.stored.deadlines.expires_at;
        alive && self.admits(slot.shared.name, copy.size())
    }

    fn fill_op(&self, slot: &TierSlot, index: usize, copy: &TierCopy) -> (TierKey, Op) {
        let deadlines = self.copy_deadlines(copy.stored.deadlines, slot.shared.ttl);
        let fence = copy.fences.get(index).unwrap_or_default();
        let op = self.fencing.fill(fence, copy.stored.clone(), deadlines, self.periods.tombstone);
        (copy.key.clone(), op)
    }

    fn fill_outcome(&self, slot: &TierSlot, authority: bool, reply: &Result<Reply>) -> FillOutcome {
        let tier = slot.shared.name;
        match reply {
            Ok(Reply::Kept(_)) => {
                slot.shared.tell(&Event::Filled { tier });
                FillOutcome::Kept
            }
            Ok(_) => {
                slot.shared.tell(&Event::FillRefused { tier });
                FillOutcome::Refused
            }
            Err(_) if authority && self.fencing.has_leases() => FillOutcome::Unconfirmed,
            Err(_) => FillOutcome::Kept,
        }
    }
}
