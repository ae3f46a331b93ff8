//! A lookup of many keys makes one round trip to each tier, for the keys that no nearer tier answered.

use std::sync::Arc;

use terrace_tier::Timestamp;
use tokio::time::Instant;

use super::{
    LookupOutcome,
    lookup::{FlightKey, KeyLookup, LOOKUP_PANICKED, LookupPass},
};
use crate::{
    Key, Value,
    cache::Inner,
    chain::{Chain, FULL_BUDGET, TierSlot},
    flight::Intent,
    near::{Near, TenantKey},
    panics::guarded,
};

/// Looks up the keys of many flights. The outcomes are in the order of the flights.
pub(super) async fn look_up_many<K: Key, V: Value, N: Near<K, V>>(
    inner: Arc<Inner<K, V, N>>,
    chain: Arc<Chain>,
    flights: Vec<FlightKey<K>>,
    intent: Intent,
    oldest_proof: Timestamp,
) -> Arc<[LookupOutcome<V>]> {
    let pass = LookupPass::new(&inner, &chain, intent, oldest_proof);
    let keys = flights.iter().map(|flight| (&*flight.key, Some(flight))).collect();
    match guarded(LOOKUP_PANICKED, pass.ask_tiers_many(keys)).await {
        Ok(outcomes) => outcomes.into(),
        Err(error) => {
            let failed = |flight: &FlightKey<K>| {
                inner.flights.end_lookup(&flight.key, flight.id, true, || ());
                LookupOutcome::Failed(error.clone(), None)
            };
            flights.iter().map(failed).collect()
        }
    }
}

/// A key that is looked up, and its flight if it has one.
type LookedUp<'f, K> = (&'f TenantKey<K>, Option<&'f FlightKey<K>>);

impl<K: Key, V: Value, N: Near<K, V>> LookupPass<'_, K, V, N> {
    /// Looks up many keys outside of any flight. The outcomes are in the order of the keys.
    pub(super) async fn look_up_all(&self, keys: &[TenantKey<K>]) -> Vec<LookupOutcome<V>> {
        let asked = keys.iter().map(|key| (key, None)).collect();
        let outcomes = guarded(LOOKUP_PANICKED, self.ask_tiers_many(asked)).await;
        outcomes
            .unwrap_or_else(|error| keys.iter().map(|_| LookupOutcome::Failed(error.clone(), None)).collect())
    }

    async fn ask_tiers_many(&self, keys: Vec<LookedUp<'_, K>>) -> Vec<LookupOutcome<V>> {
        let mut lookups: Vec<_> = keys.iter().map(|&(key, flight)| self.begin(key, flight)).collect();
        lookups.iter_mut().for_each(|lookup| _ = self.ask_front(lookup));
        for (index, slot) in self.chain.tiers.iter().enumerate() {
            self.ask_tier_many(index, slot, &mut lookups).await;
        }
        lookups.iter_mut().zip(&keys).for_each(|(lookup, (key, _))| self.take_try(key, lookup));
        if let Some(store) = &self.chain.store {
            self.ask_store_many(store, &mut lookups).await;
        }
        let mut copies = Vec::new();
        let outcomes = lookups.into_iter().zip(&keys).map(|(lookup, (key, _))| {
            let (outcome, copy) = self.end(key, lookup);
            copies.extend(copy);
            outcome
        });
        let outcomes = outcomes.collect();
        self.inner.fill_later(self.chain, copies);
        outcomes
    }

    async fn ask_tier_many(&self, index: usize, slot: &TierSlot, lookups: &mut [KeyLookup<'_, K, V>]) {
        let leases = self.takes_lease(index);
        let is_wanted = |&at: &usize| lookups[at].is_open() && slot.permits_read(&lookups[at].miss.key);
        let asked: Vec<usize> = (0..lookups.len()).filter(is_wanted).collect();
        let read = |&at: &usize| (lookups[at].miss.key.clone(), self.read_op(&lookups[at], leases, None));
        let batch = asked.iter().map(read).collect();
        let mut replaced = Vec::new();
        let began = Instant::now();
        let replies = slot.call_many(FULL_BUDGET, batch).await;
        let spent = began.elapsed();
        for (at, reply) in asked.into_iter().zip(replies) {
            lookups[at].miss.spent = spent;
            let version = self.take_reply(index, slot, &mut lookups[at], reply);
            replaced.extend(version.map(|version| (at, version)));
        }
        let lease = |&(at, version): &(usize, _)| {
            (lookups[at].miss.key.clone(), self.read_op(&lookups[at], true, Some(version)))
        };
        let batch = replaced.iter().map(lease).collect();
        for ((at, _), reply) in replaced.into_iter().zip(slot.call_many(spent, batch).await) {
            lookups[at].take_lease(index, reply);
        }
    }

    pub(super) async fn ask_store_many(&self, store: &TierSlot, lookups: &mut [KeyLookup<'_, K, V>]) {
        let asked: Vec<usize> = (0..lookups.len()).filter(|&at| lookups[at].is_open()).collect();
        let read = |&at: &usize| (lookups[at].miss.key.clone(), self.read_op(&lookups[at], true, None));
        let batch = asked.iter().map(read).collect();
        for (at, reply) in asked.into_iter().zip(store.call_many(FULL_BUDGET, batch).await) {
            self.take_record(store, &mut lookups[at], reply);
        }
    }
}
