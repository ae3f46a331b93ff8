//! A read joins its key's flight, and joins another flight if the first one turns out to be too old for
//! the call.

use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use terrace_tier::{Timestamp, Token};
use tokio::sync::oneshot;

use super::{
    CacheTicket, FlightLookup, SharedLookup,
    lookup::{FlightKey, LookupPass, look_up},
    lookup_many::look_up_many,
};
use crate::{
    Cache, Coalesce, Key, Value,
    flight::{FlightId, Intent, JoinMode},
    near::{Near, TenantKey},
};

/// How often a caller joins a shared flight that turns out to be too old for its call. After that many
/// rounds the caller looks up the key by itself.
pub(super) const SHARED_ROUNDS: usize = 2;

/// How one caller joins flights in its successive rounds.
pub(super) struct Rounds {
    mode: JoinMode,
    shared: usize,
}

impl Rounds {
    pub(super) fn new(mode: JoinMode) -> Self {
        Self { mode, shared: 0 }
    }

    pub(super) fn mode(&self) -> JoinMode {
        if self.shared < SHARED_ROUNDS { self.mode } else { JoinMode::Separate }
    }

    /// Counts a round whose flight was of no use to this caller.
    pub(super) fn next(&mut self) {
        self.shared += 1;
    }

    /// From now on the caller joins only flights whose lookups were made for a load.
    pub(super) fn for_loads(&mut self) {
        self.mode = JoinMode::JoinLoad;
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    pub(crate) fn tenant_key(&self, key: K) -> Arc<TenantKey<K>> {
        Arc::new(TenantKey { tenant: self.chain.tenant, key })
    }

    /// The join mode that the stampede policy asks for.
    pub(super) fn join_mode(&self) -> JoinMode {
        match self.inner.policies.coalesce {
            Coalesce::Nobody => JoinMode::Separate,
            Coalesce::Local | Coalesce::Lease | Coalesce::LeaseOrStale => JoinMode::Join,
        }
    }

    /// Joins the key's flight, or begins one with a lookup for this key alone.
    pub(super) fn join(
        &self,
        key: &Arc<TenantKey<K>>,
        intent: Intent,
        mode: JoinMode,
        oldest_proof: Timestamp,
    ) -> CacheTicket<K, V> {
        let lookup = |id: FlightId| {
            if self.chain.is_local() {
                let pass = LookupPass::new(&self.inner, &self.chain, intent, oldest_proof);
                return FlightLookup::new(SharedLookup::Nowhere(pass.ask_nobody(key)));
            }
            let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
            let flight = FlightKey { key: Arc::clone(key), id, replaces: Token::NONE };
            let lookup = look_up(inner, chain, flight, intent, oldest_proof);
            FlightLookup::new(SharedLookup::Single(lookup.boxed().shared()))
        };
        self.inner.flights.join(key, intent, mode, lookup)
    }

    /// Joins a flight for each of these keys. The flights that this call begins share one lookup.
    pub(super) fn join_many(
        &self,
        keys: Vec<Arc<TenantKey<K>>>,
        intent: Intent,
        mode: JoinMode,
        oldest_proof: Timestamp,
    ) -> Vec<CacheTicket<K, V>> {
        if self.chain.is_local() {
            return keys.iter().map(|key| self.join(key, intent, mode, oldest_proof)).collect();
        }
        if keys.is_empty() {
            return Vec::new();
        }
        let (send, receive) = oneshot::channel::<Vec<FlightKey<K>>>();
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        // Other callers may join a flight of this group, and poll its lookup, before all keys have
        // flights.
        let lookup = async move {
            let flights = receive.await.unwrap_or_default();
            look_up_many(inner, chain, flights, intent, oldest_proof).await
        };
        let group = lookup.boxed().shared();
        let flights = Mutex::new(Vec::new());
        let join = |key: Arc<TenantKey<K>>| {
            let lookup = |id| {
                let mut flights = flights.lock();
                flights.push(FlightKey { key: Arc::clone(&key), id, replaces: Token::NONE });
                FlightLookup::new(SharedLookup::Grouped { group: group.clone(), index: flights.len() - 1 })
            };
            self.inner.flights.join(&key, intent, mode, lookup)
        };
        let tickets = keys.into_iter().map(join).collect();
        drop(send.send(flights.into_inner()));
        tickets
    }
}
