//! Puts write one item or many.

use std::sync::Arc;

use bytes::Bytes;
use terrace_tier::{
    Condition, Deadlines, Op, Order, Reply, TierKey, Timestamp, Version,
    defence::{Defence, enabled},
    unexpected,
};

use super::{
    PutOutcome,
    guard::{DebtGuard, WriteGuard},
};
use crate::{
    Cache, Copies, Error, ErrorKind, Event, Item, Key, Result, Value,
    behind::{Behind, FrontCondition, FrontOutcome, FrontWrite},
    cache::{Distinct, Inner, NEAR, Occurrence},
    chain::{Chain, FULL_BUDGET, TierSlot},
    near::{Entry, Near, TenantKey, TenantKeyRef},
    recorder::RecordedOp,
};

/// A put as the caller requested it.
struct Put<K, V> {
    key: Arc<TenantKey<K>>,
    item: Item<V>,
    condition: Condition,
}

/// The state of a put that is being sent to the tiers.
struct PendingPut<K: Key, V: Value, N: Near<K, V>> {
    key: TierKey,
    item: Item<V>,
    body: Option<Bytes>,
    /// The deadlines of the item's copies.
    copies: Deadlines,
    condition: Condition,
    began: Timestamp,
    guard: WriteGuard<K, V, N>,
    outcome: Result<PutOutcome>,
}

impl<K: Key, V: Value, N: Near<K, V>> PendingPut<K, V, N> {
    /// Whether a follower that replied so has kept a copy that may be older than the put.
    fn leaves_older_copy(&self, chain: &Chain, reply: &Result<Reply>) -> bool {
        match (reply, &self.outcome) {
            (Ok(Reply::Refused(Some(kept))), Ok(PutOutcome::Kept(version))) => {
                chain.may_be_older(kept.version, *version)
            }
            _ => false,
        }
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Writes one item if its condition holds.
    pub(crate) async fn put_one(&self, key: K, item: Item<V>, condition: Condition) -> Result<PutOutcome> {
        if self.chain.is_local() {
            self.check_writable(condition)?;
            self.inner.note_request(RecordedOp::Put, self.chain.tenant, &key);
            return Ok(self.put_local(key, item, condition));
        }
        let results = self.put_all(vec![(key, item)], condition).await;
        results.into_iter().next().unwrap_or_else(|| Err(Error::new(ErrorKind::Backend, "no outcome")))
    }

    /// Writes each item if its condition holds, and gives one outcome for each item, in order. If a key
    /// is given twice, its last item is written. In a cache with other tiers than the near tier, the
    /// write goes on if its caller goes away, so that no write is left half done.
    pub(crate) async fn put_all(
        &self,
        items: Vec<(K, Item<V>)>,
        condition: Condition,
    ) -> Vec<Result<PutOutcome>> {
        if let Err(error) = self.check_writable(condition) {
            return items.iter().map(|_| Err(error.clone())).collect();
        }
        items.iter().for_each(|(key, _)| self.inner.note_request(RecordedOp::Put, self.chain.tenant, key));
        if self.chain.is_local() {
            return items.into_iter().map(|(key, item)| Ok(self.put_local(key, item, condition))).collect();
        }
        let put = |(key, item)| Put { key: self.tenant_key(key), item, condition };
        let (puts, numbers) = last_of_each(items.into_iter().map(put));
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        let task = async move { inner.put_through(&chain, puts).await };
        match self.inner.to_end(&self.chain, task).await {
            Ok(results) => numbers.into_iter().map(|number| results[number].clone()).collect(),
            Err(error) => numbers.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Puts an item into the near tier of a cache that has no other tier.
    fn put_local(&self, key: K, item: Item<V>, condition: Condition) -> PutOutcome {
        let key = TenantKey { tenant: self.chain.tenant, key };
        let outcome = self.inner.put_local(&key, item, condition);
        self.inner.tell_put(outcome);
        outcome
    }

    fn check_writable(&self, condition: Condition) -> Result<()> {
        let ordered = self.inner.fencing.has_leases() || self.chain.is_local();
        if condition != Condition::Always && !ordered {
            let message = "level Ttl has no order of writes; a conditional put needs Level::Fenced";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.inner.begin_call(&self.chain, false)
    }
}

/// The last put of each distinct key, and for each given put the number of its key.
fn last_of_each<K: Key, V>(puts: impl Iterator<Item = Put<K, V>>) -> (Vec<Put<K, V>>, Vec<usize>) {
    let (mut distinct, mut last) = (Distinct::new(), Vec::with_capacity(puts.size_hint().0));
    let number = |put: Put<K, V>| match distinct.add(Arc::clone(&put.key)) {
        Occurrence::First(number) => {
            last.push(put);
            number
        }
        Occurrence::Repeated(number) => {
            last[number] = put;
            number
        }
    };
    let numbers = puts.map(number).collect();
    (last, numbers)
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    fn put_local(&self, key: &TenantKey<K>, item: Item<V>, condition: Condition) -> PutOutcome {
        let (outcome, kept) = self.flights.write_now(key, || {
            let now = self.clock.now();
            let live = |entry: &Arc<Entry<V>>| entry.value().is_some() && entry.is_fresh(now);
            // The engine counts a look at the entry as a use, so a put without a condition does not look.
            let held = || self.near.get(&TenantKeyRef { tenant: key.tenant, key: &key.key }).filter(live);
            let holds = match condition {
                Condition::Always => true,
                Condition::Absent => held().is_none(),
                Condition::Version(seen) => held().is_some_and(|entry| entry.version() == seen),
            };
            if !holds {
                return (PutOutcome::Refused, false);
            }
            let version = self.next_version();
            let copies = self.deadlines(item.value.is_none(), item.ttl).unwrap_or_else(|| self.no_life());
            let entry = self.near_entry(item, version, copies);
            let kept = self.keep_near(key, &entry, self.admits(NEAR, None), now);
            (PutOutcome::Kept(version), kept)
        });
        self.tell_kept(kept);
        outcome
    }

    async fn put_through(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        puts: Vec<Put<K, V>>,
    ) -> Vec<Result<PutOutcome>> {
        let mut pending = Vec::with_capacity(puts.len());
        let mut outcomes: Vec<Option<Result<PutOutcome>>> = Vec::with_capacity(puts.len());
        for put in puts {
            match self.begin_put(chain, put) {
                Ok(put) => {
                    pending.push(put);
                    outcomes.push(None);
                }
                Err(error) => outcomes.push(Some(Err(error))),
            }
        }
        let keys: Vec<TierKey> = pending.iter().map(|put| put.key.clone()).collect();
        match self.fencing.unfenced() {
            Some(fills) => {
                fills.ended(keys.iter()).await;
                let debts = DebtGuard::new(chain.far_to_near(), keys.into_iter());
                self.put_unfenced(chain, &mut pending).await;
                debts.settle();
            }
            None if let Some(behind) = &self.behind => self.put_front(behind, chain, &mut pending).await,
            None => {
                let debts = DebtGuard::new(chain.followers(), keys.into_iter());
                self.put_authority(chain, &mut pending).await;
                for slot in chain.followers() {
                    self.put_follower(chain, slot, &pending).await;
                }
                debts.settle();
            }
        }
        let mut ended = pending.into_iter().map(|put| self.end_put(put));
        let outcome = |known: Option<_>| known.or_else(|| ended.next()).unwrap_or(Ok(PutOutcome::Refused));
        let outcomes = outcomes.into_iter().map(outcome);
        outcomes.inspect(|outcome| outcome.iter().for_each(|outcome| self.tell_put(*outcome))).collect()
    }

    /// Reports a put that the authority took. The write itself reports it, so that a caller that has gone
    /// changes no count.
    fn tell_put(&self, outcome: PutOutcome) {
        if let PutOutcome::Kept(_) = outcome {
            self.tell(&Event::Put);
        }
    }

    fn begin_put(self: &Arc<Self>, chain: &Chain, put: Put<K, V>) -> Result<PendingPut<K, V, N>> {
        let Put { key, item, condition } = put;
        let tier_key = self.tier_key(chain, &key)?;
        let body = match (&self.codec, &item.value) {
            (Some(codec), Some(value)) => Some(codec.seal(value, tier_key.digest)?),
            _ if chain.store.is_some() => {
                return Err(Error::new(ErrorKind::Unsupported, "a record cannot be absent; use remove"));
            }
            _ => None,
        };
        let copies = self.deadlines(item.value.is_none(), item.ttl).unwrap_or_else(|| self.no_life());
        let guard = WriteGuard::begin(self, &key);
        let (began, outcome) = (self.clock.now(), Ok(PutOutcome::Refused));
        Ok(PendingPut { key: tier_key, item, body, copies, condition, began, guard, outcome })
    }

    /// The authority takes the puts and issues their versions.
    async fn put_authority(&self, chain: &Chain, pending: &mut [PendingPut<K, V, N>]) {
        let Some(slot) = chain.authority() else { return };
        let (now, tombstone_ttl) = (self.clock.now(), self.periods.tombstone);
        let batch = pending.iter().map(|put| {
            let (deadlines, body) = match (&chain.store, put.item.ttl) {
                (Some(_), Some(ttl)) => (Deadlines::ttl(now, ttl), put.body.clone()),
                (Some(_), None) => (Deadlines::forever(now), put.body.clone()),
                (None, _) => self.copy_for(slot, put),
            };
            let order = Order::Author(put.condition);
            (put.key.clone(), Op::Put { order, deadlines, body, tombstone_ttl })
        });
        let replies = slot.call_many(FULL_BUDGET, batch.collect()).await;
        for (put, reply) in pending.iter_mut().zip(replies) {
            put.outcome = match reply {
                Ok(Reply::Kept(version)) => Ok(PutOutcome::Kept(version)),
                Ok(Reply::Refused(_)) => Ok(PutOutcome::Refused),
                Ok(reply) => Err(unexpected(&reply).at_tier(slot.shared.name)),
                Err(error) => Err(error),
            };
        }
    }

    /// The front acknowledges the puts and issues their versions. The store and the copies follow.
    async fn put_front(&self, behind: &Arc<Behind>, chain: &Arc<Chain>, pending: &mut [PendingPut<K, V, N>]) {
        let now = self.clock.now();
        let writes = pending.iter().map(|put| FrontWrite {
            key: put.key.clone(),
            body: put.body.clone(),
            deadlines: put.item.ttl.map_or(Deadlines::forever(now), |ttl| Deadlines::ttl(now, ttl)),
            copies: Some(put.copies),
            condition: match put.condition {
                Condition::Always => FrontCondition::Always,
                Condition::Absent => FrontCondition::Absent,
                Condition::Version(seen) => FrontCondition::Version(seen),
            },
        });
        let outcomes = behind.write(chain, writes.collect()).await;
        for (put, outcome) in pending.iter_mut().zip(outcomes) {
            put.outcome = outcome.map(|outcome| match outcome {
                FrontOutcome::Kept { version, .. } => PutOutcome::Kept(version),
                FrontOutcome::Refused(_) => PutOutcome::Refused,
            });
        }
    }

    /// The copy for a tier that orders the put itself. A copy that the tier does not admit has no life,
    /// and replaces the older copy.
    fn copy_for(&self, slot: &TierSlot, put: &PendingPut<K, V, N>) -> (Deadlines, Option<Bytes>) {
        match self.admits(slot.shared.name, put.body.as_ref().map(Bytes::len)) {
            true => (self.copy_deadlines(put.copies, slot.shared.ttl), put.body.clone()),
            false => (self.no_life(), None),
        }
    }

    /// Changes the copies in a tier that is not the authority. A key whose change the tier does not
    /// confirm becomes a debt. A failed put changes the copies, too, because the authority may have
    /// taken the put.
    async fn put_follower(&self, chain: &Chain, slot: &TierSlot, pending: &[PendingPut<K, V, N>]) {
        let ops = pending.iter().filter_map(|put| Some((put, self.follower_op(chain, slot, put)?)));
        let (puts, drops): (Vec<_>, Vec<_>) = ops.partition(|(_, op)| matches!(op, Op::Put { .. }));
        for group in [puts, drops] {
            let batch = group.iter().map(|(put, op)| (put.key.clone(), op.clone())).collect();
            let replies = slot.call_many(FULL_BUDGET, batch).await;
            for ((put, _), mut reply) in group.into_iter().zip(replies) {
                let is_too_large = matches!(&reply, Err(error) if error.kind() == ErrorKind::TooLarge);
                if is_too_large && !enabled(Defence::Oversize) {
                    continue;
                }
                if is_too_large || put.leaves_older_copy(chain, &reply) {
                    reply = slot.call(FULL_BUDGET, &put.key, self.drop_copy(None)).await;
                }
                if reply.is_err() {
                    slot.owe(&put.key);
                }
            }
        }
    }

    fn follower_op(&self, chain: &Chain, slot: &TierSlot, put: &PendingPut<K, V, N>) -> Option<Op> {
        let version = match &put.outcome {
            Ok(PutOutcome::Kept(version)) => *version,
            Ok(PutOutcome::Refused) => return None,
            Err(_) => return Some(self.drop_copy(None)),
        };
        let size = put.body.as_ref().map(Bytes::len);
        if self.policies.copies == Copies::Invalidate || !self.admits(slot.shared.name, size) {
            // Only a store's versions are above those of all older copies.
            return Some(self.drop_copy(chain.store.is_some().then_some(version)));
        }
        let deadlines = self.copy_deadlines(put.copies, slot.shared.ttl);
        let (order, tombstone_ttl) = (Order::Follow(version), self.periods.tombstone);
        Some(Op::Put { order, deadlines, body: put.body.clone(), tombstone_ttl })
    }

    fn drop_copy(&self, version: Option<Version>) -> Op {
        Op::Invalidate { version, tombstone_ttl: self.periods.tombstone }
    }

    /// Puts items at level `Ttl`. A put succeeds when any tier takes it, the near tier included.
    async fn put_unfenced(&self, chain: &Chain, pending: &mut [PendingPut<K, V, N>]) {
        let versions: Vec<Version> = pending.iter().map(|_| self.next_version()).collect();
        for (put, version) in pending.iter_mut().zip(&versions) {
            put.outcome = match self.near.is_enabled() {
                true => Ok(PutOutcome::Kept(*version)),
                false => Err(Error::new(ErrorKind::Unavailable, "no tier took the value; try the put again")),
            };
        }
        for slot in chain.far_to_near() {
            let batch = pending.iter().zip(&versions).map(|(put, version)| {
                let (deadlines, body) = self.copy_for(slot, put);
                let (order, tombstone_ttl) = (Order::Unfenced(*version), self.periods.tombstone);
                (put.key.clone(), Op::Put { order, deadlines, body, tombstone_ttl })
            });
            let replies = slot.call_many(FULL_BUDGET, batch.collect()).await;
            for ((put, version), reply) in pending.iter_mut().zip(&versions).zip(replies) {
                match reply {
                    Ok(_) => put.outcome = Ok(PutOutcome::Kept(*version)),
                    Err(error) => {
                        slot.owe(&put.key);
                        if put.outcome.is_err() {
                            put.outcome = Err(error);
                        }
                    }
                }
            }
        }
    }

    fn end_put(&self, put: PendingPut<K, V, N>) -> Result<PutOutcome> {
        let PendingPut { item, body, copies, began, guard, outcome, .. } = put;
        if let Ok(PutOutcome::Kept(version)) = outcome {
            let key = Arc::clone(&guard.key);
            let size = body.map(|body| body.len());
            let keeps = self.policies.copies == Copies::Replace && self.admits(NEAR, size);
            let (mut kept, entry) = (false, self.near_entry(item, version, copies));
            guard.finish(version, |newest| kept = self.keep_near(&key, &entry, keeps && newest, began));
            self.tell_kept(kept);
        }
        outcome
    }

    fn near_entry(&self, item: Item<V>, version: Version, copies: Deadlines) -> Arc<Entry<V>> {
        Arc::new(Entry::new(item.value, version, self.near_deadlines(copies, None)))
    }
}
