//! Guards do what a write must not leave undone, even if the write fails or panics.

use std::sync::Arc;

use terrace_tier::{TierKey, Version};

use crate::{
    Key, Value,
    cache::Inner,
    chain::TierSlot,
    flight::WriteTicket,
    near::{Near, TenantKey},
    read::{FlightLookup, LoadResult},
};

/// The last step of a write in this process, which detaches the key's flight and changes the near tier.
/// A write that fails or panics drops the key from the near tier.
pub(super) struct WriteGuard<K: Key, V: Value, N: Near<K, V>> {
    inner: Arc<Inner<K, V, N>>,
    pub(super) key: Arc<TenantKey<K>>,
    ticket: Option<WriteTicket<TenantKey<K>, FlightLookup<V>, LoadResult<V>>>,
}

impl<K: Key, V: Value, N: Near<K, V>> WriteGuard<K, V, N> {
    pub(super) fn begin(inner: &Arc<Inner<K, V, N>>, key: &Arc<TenantKey<K>>) -> Self {
        let ticket = inner.flights.begin_write(key);
        Self { inner: Arc::clone(inner), key: Arc::clone(key), ticket: Some(ticket) }
    }

    /// Runs `change`. The argument of `change` says whether the near tier may keep the written value,
    /// because this process knows of no newer value.
    pub(super) fn finish(mut self, version: Version, change: impl FnOnce(bool)) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(version.as_u64(), change);
        }
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Drop for WriteGuard<K, V, N> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(0, |_| self.inner.drop_near(&self.key));
        }
    }
}

/// The copies that a write is about to change. If the write ends before it knows that the copies were
/// changed (a policy or observer panicked, the runtime shut down), each copy becomes a debt of its tier.
pub(super) struct DebtGuard<'a> {
    slots: Vec<&'a TierSlot>,
    keys: Vec<TierKey>,
}

impl<'a> DebtGuard<'a> {
    pub(super) fn new(
        slots: impl Iterator<Item = &'a TierSlot>,
        keys: impl Iterator<Item = TierKey>,
    ) -> Self {
        Self { slots: slots.collect(), keys: keys.collect() }
    }

    /// Disarms the guard after every tier was asked: each change that a tier did not confirm is already
    /// a debt.
    pub(super) fn settle(mut self) {
        self.slots.clear();
    }
}

impl Drop for DebtGuard<'_> {
    fn drop(&mut self) {
        for slot in &self.slots {
            self.keys.iter().for_each(|key| slot.owe(key));
        }
    }
}
