//! Removals: from far to near through every tier, whatever fails on the way.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use super::{
    Cache,
    ending::{DebtGuard, WriteGuard},
    inner::Inner,
    write::finished,
};
use crate::{
    Error, ErrorKind, Event, Near, Op, Reply, Result, Role, TierKey, Version,
    chain::{Chain, TierSlot},
    near::{TenantKey, TenantKeyRef},
};

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// [`drop_keys`](Self::drop_keys) for one.
    pub(super) async fn drop_key(&self, key: K, deletes: bool) -> Result<bool> {
        self.drop_keys(vec![key], deletes).await.pop().unwrap_or(Ok(false))
    }

    /// Drops the copies of keys, or deletes them everywhere; per key, whether a value was there.
    pub(super) async fn drop_keys(&self, keys: Vec<K>, deletes: bool) -> Vec<Result<bool>> {
        if let Err(error) = self.inner.check_open() {
            return keys.iter().map(|_| Err(error.clone())).collect();
        }
        let keys: Vec<_> = keys.into_iter().map(|key| self.scoped(key)).collect();
        keys.iter().for_each(|_| self.inner.tell(&Event::Dropped));
        if self.chain.is_local() {
            return keys.iter().map(|key| Ok(self.inner.drop_local(key))).collect();
        }
        let (keys, places) = distinct(keys);
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        let task = async move { Ok(inner.drop_all(&chain, keys, deletes).await) };
        match finished(self.inner.tasks.spawn(task)).await {
            // The first of a key's removals finds the value, if any does.
            Ok(results) => answers(&places, &results),
            Err(error) => places.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

fn answers(places: &[usize], results: &[Result<bool>]) -> Vec<Result<bool>> {
    let mut next = 0;
    let answer = |&at: &usize| {
        let first = at == next;
        next += usize::from(first);
        results[at].clone().map(|existed| existed && first)
    };
    places.iter().map(answer).collect()
}

/// The distinct keys, as tiers demand them, and for each key that was given its place among them.
fn distinct<K: Eq + Hash>(keys: Vec<Arc<K>>) -> (Vec<Arc<K>>, Vec<usize>) {
    let mut known = HashMap::new();
    let mut distinct = Vec::with_capacity(keys.len());
    let places = keys.into_iter().map(|key| {
        *known.entry(Arc::clone(&key)).or_insert_with(|| {
            distinct.push(key);
            distinct.len() - 1
        })
    });
    let places = places.collect();
    (distinct, places)
}

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn drop_local(&self, key: &TenantKey<K>) -> bool {
        self.flights.write_now(key, || {
            let held = self.near.get(&TenantKeyRef { tenant: key.tenant, key: &key.key });
            self.drop_near(key);
            held.is_some_and(|entry| entry.value().is_some() && entry.is_fresh(self.clock.now()))
        })
    }

    /// Invalidates or removes keys: every tier is tried, and what failed is reported.
    async fn drop_all(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        keys: Vec<Arc<TenantKey<K>>>,
        deletes: bool,
    ) -> Vec<Result<bool>> {
        let endings: Vec<_> = keys.iter().map(|key| WriteGuard::begin(self, key)).collect();
        let mut drops: Vec<Dropping> =
            keys.iter().map(|key| Dropping::of(self.tier_key(chain, key))).collect();
        self.let_fills_end(drops.iter().filter_map(|drop| drop.key.as_ref())).await;
        let owing = DebtGuard::new(chain.tiers.iter(), drops.iter().filter_map(|drop| drop.key.clone()));
        for place in chain.far_to_near() {
            let store = place.line.role == Role::Store;
            if store && !deletes {
                continue;
            }
            let authority = chain.authority().is_some_and(|first| Arc::ptr_eq(&first.line, &place.line));
            self.drop_in(place, deletes && authority, store, &mut drops).await;
        }
        owing.settle();
        for ending in endings {
            let key = Arc::clone(&ending.key);
            ending.finish(Version::NONE, |_| self.drop_near(&key));
        }
        drops.into_iter().map(Dropping::result).collect()
    }

    async fn drop_in(&self, place: &TierSlot, deletes: bool, store: bool, drops: &mut [Dropping]) {
        let (wanted, keys): (Vec<usize>, Vec<TierKey>) =
            drops.iter().enumerate().filter_map(|(at, drop)| drop.key.clone().map(|key| (at, key))).unzip();
        let tombstone_ttl = if store { self.periods.removed } else { self.periods.tombstone };
        let batch = wanted.iter().zip(&keys).map(|(&at, key)| {
            let op = match deletes {
                true => Op::Remove { tombstone_ttl },
                false => Op::Invalidate { version: drops[at].version, tombstone_ttl },
            };
            (key.clone(), op)
        });
        let replies = place.call_many(batch.collect()).await;
        for ((at, key), reply) in wanted.into_iter().zip(keys).zip(replies) {
            match reply {
                Ok(Reply::Done { existed, version }) => {
                    drops[at].existed |= existed;
                    // Without a store no tier's version is above all copies: they are dropped whatever
                    // they are (rule 8).
                    if deletes && store {
                        drops[at].version = Some(version);
                    }
                }
                Ok(reply) => drops[at].errors.push(terrace_tier::unexpected(&reply)),
                Err(error) if store => drops[at].kept = Some(error),
                Err(error) => {
                    place.owe(&key);
                    drops[at].errors.push(error);
                }
            }
        }
    }
}

/// One key's removal on its way through the tiers.
struct Dropping {
    key: Option<TierKey>,
    /// The version of the removal, once the store issued one.
    version: Option<Version>,
    existed: bool,
    /// The store's error: it may have its record still.
    kept: Option<Error>,
    errors: Vec<Error>,
}

impl Dropping {
    fn of(key: Result<TierKey>) -> Self {
        let (key, errors) = match key {
            Ok(key) => (Some(key), Vec::new()),
            Err(error) => (None, vec![error]),
        };
        Self { key, version: None, existed: false, kept: None, errors }
    }

    fn result(mut self) -> Result<bool> {
        if let Some(error) = self.kept {
            return Err(error);
        }
        if self.errors.is_empty() {
            return Ok(self.existed);
        }
        if self.key.is_none() {
            return Err(self.errors.remove(0));
        }
        let failed: Vec<String> = self.errors.iter().map(Error::to_string).collect();
        let message = format!("not confirmed everywhere, reads go past these tiers: {}", failed.join("; "));
        Err(Error::new(ErrorKind::Partial, message).with_source(self.errors.remove(0)))
    }
}
