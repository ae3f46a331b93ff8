//! Fills: copies on their way from far to near, each over its own fence.

use std::sync::Arc;

use super::{fences::Fences, held::Held, inner::Inner, open::UnfencedFill};
use crate::{
    Error, ErrorKind, Event, Level, Near, Op, Order, Reply, Stored, TierKey, Version,
    chain::{Chain, TierSlot},
    defence::{Defence, enabled},
    flight::FlightId,
    near::TenantKey,
};

/// A copy to be kept in the tiers that gave a fence for it.
pub(crate) struct Copy {
    pub(crate) key: TierKey,
    pub(crate) fences: Fences,
    /// A tier has an older entry: where this one is not kept, that one must not stay.
    pub(crate) renews: bool,
    /// The lease that others wait for: what no tier answers gives it back.
    pub(crate) held: Option<Held>,
    pub(crate) stored: Stored,
    /// At level `Ttl`, what holds up writes of the key until the copy is dropped.
    pub(crate) open: Option<UnfencedFill>,
}

impl Copy {
    /// The tier of this index has answered the fill.
    fn settle(&self, index: usize) {
        if let Some(held) = &self.held {
            held.settle(index);
        }
    }
}

/// How far a fill came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// No tier has refused it.
    Kept,
    /// A tier refused it: something newer happened.
    Refused,
    /// The authority did not answer.
    Unconfirmed,
}

/// Tasks that fill in the background; beyond, fills are left out.
const MOST_TASKS: usize = 10_000;

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Whether a copy that a flight found or made may be sent. At level `Fenced` the tiers decide
    /// that, by their leases.
    pub(crate) fn begin_fill(&self, key: &TenantKey<K>, flight: FlightId, copy: &mut Copy) -> bool {
        if self.level.is_fenced() {
            return true;
        }
        copy.open = self.open_fills.begin(&copy.key);
        copy.open.is_some() && self.flights.is_undisturbed(key, flight)
    }

    /// Waits for the fills of keys that no lease fences; the writes of the keys have begun.
    pub(crate) async fn let_fills_end(&self, keys: impl Iterator<Item = &TierKey> + Clone) {
        if self.level == Level::Ttl {
            self.open_fills.ended(keys).await;
        }
    }

    /// Fills off the callers' path.
    pub(crate) fn fill_later(self: &Arc<Self>, chain: &Arc<Chain>, copies: Vec<Copy>) {
        if copies.is_empty() {
            return;
        }
        if self.tasks.running() >= MOST_TASKS {
            self.tell(&Event::FillSkipped);
            // What a tier has of them is older all the same.
            for copy in copies.iter().filter(|copy| copy.renews) {
                let places = chain.tiers.iter().enumerate().filter(|&(at, _)| copy.fences.get(at).is_some());
                places.for_each(|(_, place)| place.owe(&copy.key));
            }
            return;
        }
        let (inner, chain) = (Arc::clone(self), Arc::clone(chain));
        self.tasks.spawn(async move { inner.fill(&chain, &copies).await });
    }

    /// Fills from far to near; what a tier refuses goes no nearer.
    pub(crate) async fn fill(&self, chain: &Chain, copies: &[Copy]) -> Vec<Filling> {
        let mut outcomes = vec![Filling::Kept; copies.len()];
        for index in (0..chain.tiers.len()).rev() {
            let place = &chain.tiers[index];
            let (wanted, mut unkept): (Vec<usize>, Vec<usize>) = (0..copies.len())
                .filter(|&at| outcomes[at] == Filling::Kept && copies[at].fences.get(index).is_some())
                .partition(|&at| self.is_wanted(place, &copies[at]));
            let batch = wanted.iter().map(|&at| self.fill_of(place, index, &copies[at])).collect();
            let authority = chain.store.is_none() && index + 1 == chain.tiers.len();
            for (&at, reply) in wanted.iter().zip(place.call_many(batch).await) {
                if matches!(&reply, Err(error) if error.kind() == ErrorKind::TooLarge) {
                    unkept.push(at);
                }
                if reply.is_ok() {
                    copies[at].settle(index);
                }
                if matches!(&reply, Err(error) if self.is_owed(error, &copies[at])) {
                    place.owe(&copies[at].key);
                }
                outcomes[at] = self.take_fill(place, authority, &reply);
            }
            if authority && self.level.is_fenced() && enabled(Defence::Confirm) {
                self.confirm(place, index, copies, &unkept, &mut outcomes).await;
            }
            if enabled(Defence::DropReplaced) {
                self.drop_replaced(place, copies, &unkept).await;
            }
            if !authority && self.level.is_fenced() && enabled(Defence::Outdate) {
                self.outdate(place, copies, &wanted, &mut outcomes).await;
            }
        }
        outcomes
    }

    /// A tier refuses a fill also where another reader was first, maybe with an older value that
    /// the authority has replaced by this one meanwhile. What is older must not stay.
    async fn outdate(&self, place: &TierSlot, copies: &[Copy], wanted: &[usize], outcomes: &mut [Filling]) {
        let refused: Vec<usize> =
            wanted.iter().copied().filter(|&at| outcomes[at] == Filling::Refused).collect();
        let batch = refused.iter().map(|&at| {
            let Stored { version, deadlines, body, .. } = copies[at].stored.clone();
            let deadlines = self.copy_deadlines(deadlines, place.line.ttl);
            let (order, tombstone_ttl) = (Order::Follow(version), self.periods.tombstone);
            (copies[at].key.clone(), Op::Put { order, deadlines, body, tombstone_ttl })
        });
        let replies = place.call_many(batch.collect()).await;
        for (at, reply) in refused.into_iter().zip(replies) {
            match reply {
                Ok(Reply::Kept(_)) => outcomes[at] = Filling::Kept,
                Ok(_) => {}
                Err(_) => place.owe(&copies[at].key),
            }
        }
    }

    /// What the authority is not to keep, it is asked about all the same: a fill that is over at once
    /// uses up the lease, and is refused where something newer happened. Else near would keep what an
    /// invalidation elsewhere had overtaken.
    async fn confirm(
        &self,
        place: &TierSlot,
        index: usize,
        copies: &[Copy],
        unkept: &[usize],
        outcomes: &mut [Filling],
    ) {
        let over = |&at: &usize| {
            let version = copies[at].stored.version;
            let fence = copies[at].fences.get(index).unwrap_or_default();
            (copies[at].key.clone(), Op::Fill { fence, version, deadlines: self.no_life(), body: None })
        };
        let replies = place.call_many(unkept.iter().map(over).collect()).await;
        for (&at, reply) in unkept.iter().zip(replies) {
            if reply.is_ok() {
                copies[at].settle(index);
            }
            outcomes[at] = match reply {
                Ok(Reply::Kept(_)) => Filling::Kept,
                Ok(_) => Filling::Refused,
                Err(_) => Filling::Unconfirmed,
            };
        }
    }

    /// Drops the older entries of copies that the tier is not to keep or does not take (rule 7).
    async fn drop_replaced(&self, place: &TierSlot, copies: &[Copy], unkept: &[usize]) {
        let replaced: Vec<&Copy> = unkept.iter().map(|&at| &copies[at]).filter(|copy| copy.renews).collect();
        let batch = replaced.iter().map(|copy| {
            // A record that never was has no version, and neither has anything at level `Ttl`.
            let known = self.level.is_fenced() && copy.stored.version != Version::NONE;
            let version = known.then_some(copy.stored.version);
            (copy.key.clone(), Op::Invalidate { version, tombstone_ttl: self.periods.tombstone })
        });
        let replies = place.call_many(batch.collect()).await;
        for (copy, reply) in replaced.into_iter().zip(replies) {
            if reply.is_err() {
                place.owe(&copy.key);
            }
        }
    }

    /// Whether a tier that failed to take a copy may now have what nobody is to read.
    fn is_owed(&self, error: &Error, copy: &Copy) -> bool {
        // No fence keeps a late one from landing on what is written next.
        let late = self.level == Level::Ttl && error.kind() == ErrorKind::Unknown;
        late || copy.renews
    }

    fn is_wanted(&self, place: &TierSlot, copy: &Copy) -> bool {
        let size = copy.stored.body.as_ref().map(bytes::Bytes::len);
        let alive = self.clock.now() < copy.stored.deadlines.expires_at;
        alive && self.admits(place.line.name, size)
    }

    fn fill_of(&self, place: &TierSlot, index: usize, copy: &Copy) -> (TierKey, Op) {
        let Stored { version, deadlines, body, .. } = copy.stored.clone();
        let deadlines = self.copy_deadlines(deadlines, place.line.ttl);
        let op = match (self.level, copy.fences.get(index)) {
            (level, Some(fence)) if level.is_fenced() => Op::Fill { fence, version, deadlines, body },
            _ => Op::Put {
                order: Order::Unfenced(version),
                deadlines,
                body,
                tombstone_ttl: self.periods.tombstone,
            },
        };
        (copy.key.clone(), op)
    }

    fn take_fill(&self, place: &TierSlot, authority: bool, reply: &crate::Result<Reply>) -> Filling {
        let tier = place.line.name;
        match reply {
            Ok(Reply::Kept(_)) => {
                place.line.tell(&Event::Filled { tier });
                Filling::Kept
            }
            Ok(_) => {
                place.line.tell(&Event::FillRefused { tier });
                Filling::Refused
            }
            Err(_) if authority && self.level.is_fenced() => Filling::Unconfirmed,
            Err(_) => Filling::Kept,
        }
    }
}
