//! The way of one key through the remote tiers, near to far.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{
    inner::Inner,
    looked::LookupOutcome,
    lookup::{Seat, Sought},
};
use crate::{Error, ErrorKind, Near, Timestamp, chain::Chain, flight::Intent, near::TenantKey};

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Looks one key up, keeps what was found nearer, and ends the lookup stage of its flight. A copy
    /// answers if it is proven from `oldest` on.
    pub(crate) async fn look_up(
        self: Arc<Self>,
        chain: Arc<Chain>,
        seat: Seat<K>,
        errand: Intent,
        oldest: Timestamp,
    ) -> LookupOutcome<V> {
        self.walk_guarded(&chain, &seat.key, Some(&seat), errand, oldest).await
    }

    /// Walks; where user code panics on the way, all callers get a typed error: a shared future that
    /// panicked would wake nobody. A read without a seat flies past the flight table.
    pub(super) async fn walk_guarded(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        key: &TenantKey<K>,
        seat: Option<&Seat<K>>,
        errand: Intent,
        oldest: Timestamp,
    ) -> LookupOutcome<V> {
        match AssertUnwindSafe(self.walk(chain, key, seat, errand, oldest)).catch_unwind().await {
            Ok(looked) => looked,
            Err(_panic) => self.panicked(seat),
        }
    }

    /// The way of one key, which most lookups are: it takes no memory of its own on a hit.
    async fn walk(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        key: &TenantKey<K>,
        seat: Option<&Seat<K>>,
        errand: Intent,
        oldest: Timestamp,
    ) -> LookupOutcome<V> {
        let mut sought = self.seek(chain, key, seat.cloned(), errand, oldest);
        for index in 0..chain.tiers.len() {
            if sought.is_wanted_from(&chain.tiers[index]) {
                self.ask_tier(chain, index, errand, &mut sought).await;
            }
        }
        if let (Some(store), None) = (&chain.store, &sought.found) {
            let reply = store.call(&sought.key, self.read_op(&sought, true, None)).await;
            self.take_record(store, &mut sought, reply);
        }
        let (looked, copy) = self.end(chain, errand, sought);
        self.fill_later(chain, copy.into_iter().collect());
        looked
    }

    async fn ask_tier(&self, chain: &Chain, index: usize, errand: Intent, sought: &mut Sought<K, V>) {
        let place = &chain.tiers[index];
        let leases = self.may_lease(chain, index, errand);
        let began = Instant::now();
        let reply = place.call(&sought.key, self.read_op(sought, leases, None)).await;
        let over = self.take_reply(chain, index, errand, sought, reply);
        if sought.found.is_some() {
            return;
        }
        sought.missed.spent = began.elapsed();
        if let Some(over) = over {
            // Seldom: its room is not every lookup's.
            let lease = self.read_op(sought, true, Some(over));
            let reply = Box::pin(place.call_after(sought.missed.spent, &sought.key, lease)).await;
            sought.take_renewal(index, reply);
        }
    }

    pub(super) fn panicked(&self, seat: Option<&Seat<K>>) -> LookupOutcome<V> {
        if let Some(seat) = seat {
            self.flights.end_lookup(&seat.key, seat.id, true, || ());
        }
        let message = "a codec, policy, observer or tier panicked during the lookup";
        LookupOutcome::Failed(Error::new(ErrorKind::Panicked, message), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Cache, NoNear, Token,
        cache::{looked::SharedLookup, proof::ANY},
        flight::JoinMode,
    };

    /// glibc keeps freed pieces of up to so many bytes at hand for each thread.
    const AT_HAND: usize = 1032;

    #[tokio::test]
    async fn the_futures_of_reads_stay_small() {
        let cache: Cache<String, String, NoNear> = Cache::builder("sizes").build().unwrap();
        let (inner, chain) = (&cache.inner, &cache.chain);
        let key = cache.scoped("k".to_owned());
        let mut bytes = 0;
        inner.flights.board(&key, Intent::Load, JoinMode::Join, |id| {
            let seat = Seat { key: Arc::clone(&key), id, replaces: Token::NONE };
            let lookup = Inner::look_up(Arc::clone(inner), Arc::clone(chain), seat, Intent::Load, ANY);
            bytes = size_of_val(&lookup);
            SharedLookup::Alone(lookup.boxed().shared())
        });
        assert!((1..=AT_HAND).contains(&bytes), "{bytes} bytes");
        let bytes = size_of_val(&*cache.read_cold("k".to_owned(), None));
        assert!(bytes <= AT_HAND, "{bytes} bytes past the flights");
    }
}
