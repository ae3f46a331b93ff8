//! Puts: the authority first, then the copies from far to near, the near tier last.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Cache,
    ending::{DebtGuard, WriteGuard},
    errors::shut_down_error,
    inner::{Inner, NEAR},
};
use crate::{
    Condition, Copies, Deadlines, Entry, Error, ErrorKind, Event, Item, Level, Near, Op, Order, Reply,
    Result, TierKey, Timestamp, Version,
    chain::{Chain, TierSlot},
    defence::{Defence, enabled},
    near::{TenantKey, TenantKeyRef},
};

/// A put on its way.
struct Put<K, V> {
    pub(crate) key: Arc<TenantKey<K>>,
    pub(crate) item: Item<V>,
    pub(crate) condition: Condition,
}

/// How a put ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// The authority took it, with this version.
    Kept(Version),
    /// Its condition did not hold.
    Refused,
}

impl Written {
    /// The version of a put without a condition.
    fn version(self) -> Result<Version> {
        match self {
            Self::Kept(version) => Ok(version),
            Self::Refused => Err(Error::new(ErrorKind::Backend, "an unconditional put was refused")),
        }
    }
}

/// A put that goes through the tiers.
struct Going<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    key: TierKey,
    item: Item<V>,
    body: Option<Bytes>,
    /// The deadlines of its copies.
    copies: Deadlines,
    condition: Condition,
    began: Timestamp,
    ending: WriteGuard<K, V, N>,
    outcome: Result<Written>,
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// Writes one item, whatever is there.
    pub(super) async fn put_one(&self, key: K, item: Item<V>) -> Result<Version> {
        self.put_if(key, item, Condition::Always).await?.version()
    }

    /// Writes items, whatever is there; one result an item, in order.
    pub(super) async fn put_all(&self, items: Vec<(K, Item<V>)>) -> Vec<Result<Version>> {
        let results = self.put_all_if(items, Condition::Always).await.into_iter();
        results.map(|result| result.and_then(Written::version)).collect()
    }

    /// Writes one item if its condition holds; whether it did.
    pub(super) async fn put_conditional(&self, key: K, item: Item<V>, condition: Condition) -> Result<bool> {
        if self.inner.level == Level::Ttl && !self.chain.is_local() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "level Ttl has no order of writes; a conditional put needs Level::Fenced",
            ));
        }
        Ok(matches!(self.put_if(key, item, condition).await?, Written::Kept(_)))
    }

    async fn put_if(&self, key: K, item: Item<V>, condition: Condition) -> Result<Written> {
        let results = self.put_all_if(vec![(key, item)], condition).await;
        results.into_iter().next().unwrap_or_else(|| Err(Error::new(ErrorKind::Backend, "no outcome")))
    }

    /// Spawned where other tiers take part, so that a caller that goes away leaves no write half done.
    async fn put_all_if(&self, items: Vec<(K, Item<V>)>, condition: Condition) -> Vec<Result<Written>> {
        if let Err(error) = self.inner.check_open() {
            return items.iter().map(|_| Err(error.clone())).collect();
        }
        let puts = items.into_iter().map(|(key, item)| {
            self.inner.tell(&Event::Put);
            Put { key: self.scoped(key), item, condition }
        });
        if self.chain.is_local() {
            return puts.map(|put| Ok(self.inner.put_local(put))).collect();
        }
        let (puts, places) = last_of_each(puts);
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        let task = async move { Ok(inner.put_through(&chain, puts).await) };
        match finished(self.inner.tasks.spawn(task)).await {
            Ok(results) => places.into_iter().map(|at| results[at].clone()).collect(),
            Err(error) => places.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// The puts of distinct keys, as tiers demand them, the last one of each key; and for each put that
/// was asked for, where its result will be.
fn last_of_each<K: Eq + Hash, V>(puts: impl Iterator<Item = Put<K, V>>) -> (Vec<Put<K, V>>, Vec<usize>) {
    let mut known = HashMap::new();
    let mut distinct: Vec<Put<K, V>> = Vec::with_capacity(puts.size_hint().0);
    let places = puts.map(|put| {
        let at = *known.entry(Arc::clone(&put.key)).or_insert(distinct.len());
        match distinct.get_mut(at) {
            Some(earlier) => *earlier = put,
            None => distinct.push(put),
        }
        at
    });
    let places = places.collect();
    (distinct, places)
}

/// The result of a spawned write; a panic in a codec or policy is a typed error.
pub(super) async fn finished<T>(task: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            Err(Error::new(ErrorKind::Panicked, "a codec, policy or observer panicked during the write"))
        }
        Err(_) => Err(shut_down_error()),
    }
}

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A put where the near tier is all there is.
    fn put_local(&self, put: Put<K, V>) -> Written {
        let Put { key, item, condition } = put;
        let (written, kept) = self.flights.write_now(&key, || {
            let probe = TenantKeyRef { tenant: key.tenant, key: &key.key };
            let now = self.clock.now();
            let held = self.near.get(&probe).filter(|entry| entry.value().is_some() && entry.is_fresh(now));
            let holds = match condition {
                Condition::Always => true,
                Condition::Absent => held.is_none(),
                Condition::Version(seen) => held.as_ref().is_some_and(|entry| entry.version() == seen),
            };
            if !holds {
                return (Written::Refused, false);
            }
            let version = self.next_version();
            let copies = self.deadlines(item.value.is_none(), item.ttl).unwrap_or_else(|| self.no_life());
            let entry = self.near_entry(item, version, copies);
            let kept = self.keep_near(&key, &entry, self.admits(NEAR, None), now);
            (Written::Kept(version), kept)
        });
        self.tell_kept(kept);
        written
    }

    async fn put_through(self: &Arc<Self>, chain: &Arc<Chain>, puts: Vec<Put<K, V>>) -> Vec<Result<Written>> {
        let mut going = Vec::with_capacity(puts.len());
        let mut outcomes: Vec<Option<Result<Written>>> = Vec::with_capacity(puts.len());
        for put in puts {
            match self.start_put(chain, put) {
                Ok(put) => {
                    going.push(put);
                    outcomes.push(None);
                }
                Err(error) => outcomes.push(Some(Err(error))),
            }
        }
        self.let_fills_end(going.iter().map(|put| &put.key)).await;
        let keys = going.iter().map(|put| put.key.clone());
        let owing = match self.level {
            Level::Ttl => DebtGuard::new(chain.far_to_near(), keys),
            _ => DebtGuard::new(chain.followers(), keys),
        };
        if self.level == Level::Ttl {
            self.put_open(chain, &mut going).await;
        } else {
            self.put_authority(chain, &mut going).await;
            for place in chain.followers() {
                self.put_follower(place, &going).await;
            }
        }
        owing.settle();
        let mut ended = going.into_iter().map(|put| self.end_put(put));
        outcomes
            .into_iter()
            .map(|known| known.or_else(|| ended.next()).unwrap_or(Ok(Written::Refused)))
            .collect()
    }

    fn start_put(self: &Arc<Self>, chain: &Chain, put: Put<K, V>) -> Result<Going<K, V, N>> {
        let Put { key, item, condition } = put;
        let tier_key = self.tier_key(chain, &key)?;
        let body = match (&self.wire, &item.value) {
            (Some(wire), Some(value)) => Some(wire.seal(value, tier_key.digest)?),
            _ if chain.store.is_some() => {
                return Err(Error::new(ErrorKind::Unsupported, "a record cannot be absent; use remove"));
            }
            _ => None,
        };
        let copies = self.deadlines(item.value.is_none(), item.ttl).unwrap_or_else(|| self.no_life());
        let ending = WriteGuard::begin(self, &key);
        let outcome = Ok(Written::Refused);
        Ok(Going { key: tier_key, item, body, copies, condition, began: self.clock.now(), ending, outcome })
    }

    /// The authority takes the puts and issues their versions.
    async fn put_authority(&self, chain: &Chain, going: &mut [Going<K, V, N>]) {
        let Some(place) = chain.authority() else { return };
        let (now, tombstone_ttl) = (self.clock.now(), self.periods.tombstone);
        let batch = going.iter().map(|put| {
            let (deadlines, body) = match (&chain.store, put.item.ttl) {
                (Some(_), Some(ttl)) => (Deadlines::ttl(now, ttl), put.body.clone()),
                (Some(_), None) => (Deadlines::forever(now), put.body.clone()),
                (None, _) => self.copy_for(place, put),
            };
            let order = Order::Author(put.condition);
            (put.key.clone(), Op::Put { order, deadlines, body, tombstone_ttl })
        });
        let replies = place.call_many(batch.collect()).await;
        for (put, reply) in going.iter_mut().zip(replies) {
            put.outcome = match reply {
                Ok(Reply::Kept(version)) => Ok(Written::Kept(version)),
                Ok(Reply::Refused(_)) => Ok(Written::Refused),
                Ok(reply) => Err(terrace_tier::unexpected(&reply).at_tier(place.line.name)),
                Err(error) => Err(error),
            };
        }
    }

    /// The copy for a tier that orders the put itself. One that is not admitted there has no life,
    /// and so takes the place of what was there.
    fn copy_for(&self, place: &TierSlot, put: &Going<K, V, N>) -> (Deadlines, Option<Bytes>) {
        let size = put.body.as_ref().map(Bytes::len);
        match self.admits(place.line.name, size) {
            true => (self.copy_deadlines(put.copies, place.line.ttl), put.body.clone()),
            false => (self.no_life(), None),
        }
    }

    /// Changes the copies in a tier that is not the authority: what it does not confirm, it owes.
    /// After a failed put too: it may have happened, so no copy is to be trusted.
    async fn put_follower(&self, place: &TierSlot, going: &[Going<K, V, N>]) {
        let ops = going.iter().filter_map(|put| Some((put, self.follow(place, put)?)));
        let (puts, drops): (Vec<_>, Vec<_>) = ops.partition(|(_, op)| matches!(op, Op::Put { .. }));
        for group in [puts, drops] {
            let batch = group.iter().map(|(put, op)| (put.key.clone(), op.clone())).collect();
            let replies = place.call_many(batch).await;
            for ((put, _), mut reply) in group.into_iter().zip(replies) {
                if matches!(&reply, Err(error) if error.kind() == ErrorKind::TooLarge) {
                    reply = match enabled(Defence::Oversize) {
                        true => place.call(&put.key, self.drop_copy(None)).await,
                        false => Ok(Reply::Refused(None)),
                    };
                }
                if reply.is_err() {
                    place.owe(&put.key);
                }
            }
        }
    }

    fn follow(&self, place: &TierSlot, put: &Going<K, V, N>) -> Option<Op> {
        let version = match &put.outcome {
            Ok(Written::Kept(version)) => *version,
            Ok(Written::Refused) => return None,
            Err(_) => return Some(self.drop_copy(None)),
        };
        let size = put.body.as_ref().map(Bytes::len);
        if self.policies.copies == Copies::Invalidate || !self.admits(place.line.name, size) {
            return Some(self.drop_copy(Some(version)));
        }
        let deadlines = self.copy_deadlines(put.copies, place.line.ttl);
        let (order, tombstone_ttl) = (Order::Follow(version), self.periods.tombstone);
        Some(Op::Put { order, deadlines, body: put.body.clone(), tombstone_ttl })
    }

    fn drop_copy(&self, version: Option<Version>) -> Op {
        Op::Invalidate { version, tombstone_ttl: self.periods.tombstone }
    }

    /// Puts of level `Ttl`: they stand when any tier took them, and memory is one.
    async fn put_open(&self, chain: &Chain, going: &mut [Going<K, V, N>]) {
        let versions: Vec<Version> = going.iter().map(|_| self.next_version()).collect();
        for (put, version) in going.iter_mut().zip(&versions) {
            put.outcome = match self.near.is_enabled() {
                true => Ok(Written::Kept(*version)),
                false => Err(Error::new(ErrorKind::Unavailable, "no tier took the value")),
            };
        }
        for place in chain.far_to_near() {
            let batch = going.iter().zip(&versions).map(|(put, version)| {
                let (deadlines, body) = self.copy_for(place, put);
                let (order, tombstone_ttl) = (Order::Unfenced(*version), self.periods.tombstone);
                (put.key.clone(), Op::Put { order, deadlines, body, tombstone_ttl })
            });
            let replies = place.call_many(batch.collect()).await;
            for ((put, version), reply) in going.iter_mut().zip(&versions).zip(replies) {
                match reply {
                    Ok(_) => put.outcome = Ok(Written::Kept(*version)),
                    Err(error) => {
                        place.owe(&put.key);
                        put.outcome =
                            std::mem::replace(&mut put.outcome, Ok(Written::Refused)).or(Err(error));
                    }
                }
            }
        }
    }

    fn end_put(&self, put: Going<K, V, N>) -> Result<Written> {
        let Going { item, body, copies, began, ending, outcome, .. } = put;
        if let Ok(Written::Kept(version)) = outcome {
            let key = Arc::clone(&ending.key);
            let keeps =
                self.policies.copies == Copies::Replace && self.admits(NEAR, body.map(|body| body.len()));
            let (mut kept, entry) = (false, self.near_entry(item, version, copies));
            ending.finish(version, |newest| kept = self.keep_near(&key, &entry, keeps && newest, began));
            self.tell_kept(kept);
        }
        outcome
    }

    fn near_entry(&self, item: Item<V>, version: Version, copies: Deadlines) -> Arc<Entry<V>> {
        Arc::new(Entry::new(item.value, version, self.near_deadlines(copies, None)))
    }

    pub(crate) fn no_life(&self) -> Deadlines {
        Deadlines::ttl(self.clock.now(), Duration::ZERO)
    }
}
