//! What a write must not leave undone, however it ends.

use std::{hash::Hash, sync::Arc};

use super::{
    inner::Inner,
    looked::{CacheFlights, Loaded, SharedLookup},
};
use crate::{Near, TierKey, Version, chain::Place, flight::WriteTicket, near::Scoped};

/// The last step of a write, taken also when the write fails or panics: then the near tier keeps
/// nothing for the key.
pub(crate) struct Ending<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    inner: Arc<Inner<K, V, N>>,
    pub(crate) key: Arc<Scoped<K>>,
    ticket: Option<WriteTicket<Scoped<K>, SharedLookup<V>, Loaded<V>>>,
}

impl<K, V, N> Ending<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(crate) fn begin(inner: &Arc<Inner<K, V, N>>, key: &Arc<Scoped<K>>) -> Self {
        let ticket = CacheFlights::begin_write(&inner.flights, key);
        Self { inner: Arc::clone(inner), key: Arc::clone(key), ticket: Some(ticket) }
    }

    /// `change` is told whether what was written may be kept: nothing newer is known.
    pub(crate) fn finish(mut self, version: Version, change: impl FnOnce(bool)) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(version.as_u64(), change);
        }
    }
}

impl<K, V, N> Drop for Ending<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(0, |_| self.inner.drop_near(&self.key));
        }
    }
}

/// The copies that a write is about to change. Where it ends before it could say whether they were (a
/// policy or observer panicked, the runtime shut down), their tiers owe the keys.
pub(crate) struct Owing<'a> {
    places: Vec<&'a Place>,
    keys: Vec<TierKey>,
}

impl<'a> Owing<'a> {
    pub(crate) fn new(places: impl Iterator<Item = &'a Place>, keys: impl Iterator<Item = TierKey>) -> Self {
        Self { places: places.collect(), keys: keys.collect() }
    }

    /// Every tier was asked, and what it did not confirm is owed already.
    pub(crate) fn settle(mut self) {
        self.places.clear();
    }
}

impl Drop for Owing<'_> {
    fn drop(&mut self) {
        for place in &self.places {
            self.keys.iter().for_each(|key| place.owe(key));
        }
    }
}
