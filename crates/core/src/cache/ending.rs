//! What a write must not leave undone, however it ends.

use std::{hash::Hash, sync::Arc};

use super::{
    inner::Inner,
    looked::{CacheFlights, Loaded, SharedLookup},
};
use crate::{Near, TierKey, Version, chain::TierSlot, flight::WriteTicket, near::TenantKey};

/// The last step of a write, taken also when the write fails or panics: then the near tier keeps
/// nothing for the key.
pub(crate) struct WriteGuard<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    inner: Arc<Inner<K, V, N>>,
    pub(crate) key: Arc<TenantKey<K>>,
    ticket: Option<WriteTicket<TenantKey<K>, SharedLookup<V>, Loaded<V>>>,
}

impl<K, V, N> WriteGuard<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(crate) fn begin(inner: &Arc<Inner<K, V, N>>, key: &Arc<TenantKey<K>>) -> Self {
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

impl<K, V, N> Drop for WriteGuard<K, V, N>
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
pub(crate) struct DebtGuard<'a> {
    places: Vec<&'a TierSlot>,
    keys: Vec<TierKey>,
}

impl<'a> DebtGuard<'a> {
    pub(crate) fn new(
        places: impl Iterator<Item = &'a TierSlot>,
        keys: impl Iterator<Item = TierKey>,
    ) -> Self {
        Self { places: places.collect(), keys: keys.collect() }
    }

    /// Every tier was asked, and what it did not confirm is owed already.
    pub(crate) fn settle(mut self) {
        self.places.clear();
    }
}

impl Drop for DebtGuard<'_> {
    fn drop(&mut self) {
        for place in &self.places {
            self.keys.iter().for_each(|key| place.owe(key));
        }
    }
}
