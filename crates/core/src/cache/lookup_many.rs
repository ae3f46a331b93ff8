//! The lookup stage of many keys at once: one trip a tier for those that no nearer one answered.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{
    inner::Inner,
    looked::LookupOutcome,
    lookup::{Seat, Sought},
};
use crate::{
    Near, Timestamp,
    chain::{Chain, TierSlot},
    flight::Intent,
};

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// [`look_up`](Self::look_up) for many keys; the answers are in their order.
    pub(crate) async fn look_up_many(
        self: Arc<Self>,
        chain: Arc<Chain>,
        seats: Vec<Seat<K>>,
        errand: Intent,
        oldest: Timestamp,
    ) -> Arc<[LookupOutcome<V>]> {
        match AssertUnwindSafe(self.walk_many(&chain, &seats, errand, oldest)).catch_unwind().await {
            Ok(looked) => looked,
            Err(_panic) => seats.iter().map(|seat| self.panicked(Some(seat))).collect(),
        }
    }

    async fn walk_many(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        seats: &[Seat<K>],
        errand: Intent,
        oldest: Timestamp,
    ) -> Arc<[LookupOutcome<V>]> {
        let seek = |seat: &Seat<K>| self.seek(chain, &seat.key, Some(seat.clone()), errand, oldest);
        let mut keys: Vec<_> = seats.iter().map(seek).collect();
        for index in 0..chain.tiers.len() {
            self.ask_tier_many(chain, index, errand, &mut keys).await;
        }
        if let Some(store) = &chain.store {
            self.ask_store_many(store, &mut keys).await;
        }
        let mut copies = Vec::new();
        let looked = keys.into_iter().map(|sought| {
            let (looked, copy) = self.end(chain, errand, sought);
            copies.extend(copy);
            looked
        });
        let looked = looked.collect();
        self.fill_later(chain, copies);
        looked
    }

    async fn ask_tier_many(&self, chain: &Chain, index: usize, errand: Intent, keys: &mut [Sought<K, V>]) {
        let place = &chain.tiers[index];
        let leases = self.may_lease(chain, index, errand);
        let asked: Vec<usize> = (0..keys.len()).filter(|&at| keys[at].is_wanted_from(place)).collect();
        let batch =
            asked.iter().map(|&at| (keys[at].key.clone(), self.read_op(&keys[at], leases, None))).collect();
        let mut renewals = Vec::new();
        let began = Instant::now();
        let replies = place.call_many(batch).await;
        let spent = began.elapsed();
        for (at, reply) in asked.into_iter().zip(replies) {
            keys[at].missed.spent = spent;
            let over = self.take_reply(chain, index, errand, &mut keys[at], reply);
            renewals.extend(over.map(|over| (at, over)));
        }
        let lease =
            |&(at, over): &(usize, _)| (keys[at].key.clone(), self.read_op(&keys[at], true, Some(over)));
        let batch = renewals.iter().map(lease).collect();
        for ((at, _), reply) in renewals.into_iter().zip(place.call_many_after(spent, batch).await) {
            keys[at].take_renewal(index, reply);
        }
    }

    pub(super) async fn ask_store_many(&self, store: &TierSlot, keys: &mut [Sought<K, V>]) {
        let asked: Vec<usize> = (0..keys.len()).filter(|&at| keys[at].found.is_none()).collect();
        let batch =
            asked.iter().map(|&at| (keys[at].key.clone(), self.read_op(&keys[at], true, None))).collect();
        for (at, reply) in asked.into_iter().zip(store.call_many(batch).await) {
            self.take_record(store, &mut keys[at], reply);
        }
    }
}
