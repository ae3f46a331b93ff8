//! Boarding a key's flight, and boarding again where it began too long before the call.

use std::{hash::Hash, sync::Arc};

use futures_util::FutureExt;

use super::{
    Cache,
    inner::Inner,
    looked::{CacheTicket, LookupOutcome, SharedLookup},
    lookup::Seat,
};
use crate::{
    Cached, Coalesce, Error, ErrorKind, Near, Timestamp, Token,
    flight::{FlightId, Intent, JoinMode},
    near::{TenantKey, TenantKeyRef},
};

/// How often a caller shares a flight that turns out to have begun too long before its call, until it
/// flies alone. One that it meets later began after its call, unless others ask for less proof.
pub(super) const SHARED_ROUNDS: usize = 2;

/// How a caller boards, round after round.
pub(super) struct Rounds {
    how: JoinMode,
    shared: usize,
}

impl Rounds {
    pub(super) fn new(how: JoinMode) -> Self {
        Self { how, shared: 0 }
    }

    pub(super) fn how(&self) -> JoinMode {
        if self.shared < SHARED_ROUNDS { self.how } else { JoinMode::Separate }
    }

    /// The flight came to nothing for this caller.
    pub(super) fn next(&mut self) {
        self.shared += 1;
    }

    /// From now on those alone whose lookups are made for loads.
    pub(super) fn for_loads(&mut self) {
        self.how = JoinMode::JoinLoad;
    }
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(super) fn scoped(&self, key: K) -> Arc<TenantKey<K>> {
        Arc::new(TenantKey { tenant: self.chain.tenant, key })
    }

    /// How the stampede policy has callers share a flight.
    pub(super) fn boarding(&self) -> JoinMode {
        match self.inner.policies.coalesce {
            Coalesce::Nobody => JoinMode::Separate,
            Coalesce::Local | Coalesce::Lease | Coalesce::LeaseOrStale => JoinMode::Join,
        }
    }

    /// Boards the key's flight, with a lookup for this key alone if it is new.
    pub(super) fn board(
        &self,
        key: &Arc<TenantKey<K>>,
        errand: Intent,
        how: JoinMode,
        oldest: Timestamp,
    ) -> CacheTicket<K, V> {
        self.inner.flights.board(key, errand, how, |id| self.lookup_alone(key, id, errand, oldest))
    }

    fn lookup_alone(
        &self,
        key: &Arc<TenantKey<K>>,
        id: FlightId,
        errand: Intent,
        oldest: Timestamp,
    ) -> SharedLookup<V> {
        let seat = Seat { key: Arc::clone(key), id, replaces: Token::NONE };
        let lookup = Inner::look_up(Arc::clone(&self.inner), Arc::clone(&self.chain), seat, errand, oldest);
        SharedLookup::Alone(lookup.boxed().shared())
    }

    pub(super) async fn lookup_of(&self, ticket: &CacheTicket<K, V>) -> LookupOutcome<V> {
        let (group, index) = match &ticket.flight().lookup {
            SharedLookup::Alone(lookup) => return lookup.clone().await,
            SharedLookup::Grouped { group, index } => (group.clone(), *index),
        };
        match group.await.get(index) {
            Some(looked) => looked.clone(),
            None => LookupOutcome::Failed(Error::new(ErrorKind::Backend, "the lookup lost a key"), None),
        }
    }

    /// What another's load left in near, if it landed between the look there and boarding: where no tier
    /// has it, it would be loaded twice.
    pub(super) fn landed(&self, key: &K) -> Option<Option<Cached<V>>> {
        let probe = TenantKeyRef { tenant: self.tenant, key };
        let landed = self.chain.is_local() && self.inner.near.holds(&probe);
        landed.then(|| self.near_hit(key, true).ok()).flatten()
    }

    /// A flight came to nothing for this call: the next round, or what near has by now. What was told
    /// meanwhile may prove it.
    pub(super) fn again(&self, rounds: &mut Rounds, key: &K, loads: bool) -> Option<Option<Cached<V>>> {
        rounds.next();
        self.near_hit(key, loads).ok()
    }
}
