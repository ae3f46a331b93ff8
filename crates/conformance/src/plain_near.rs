//! A near tier without a bound or a clock, whose keys a test makes it forget.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use terrace_core::{
    key::BorrowedKey,
    near::{Entry, Near, NearSize, TenantId, TenantKey, TenantKeyRef},
};

/// Entries by key; nothing in it is random. A clone is the same tier.
#[derive(Clone)]
pub struct PlainNear(Option<Arc<Mutex<Entries>>>);

type Entries = BTreeMap<u64, Arc<Entry<u64>>>;

impl PlainNear {
    /// An empty one.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// Evicts a key.
    pub fn forget(&self, key: u64) {
        if let Some(entries) = &self.0 {
            entries.lock().remove(&key);
        }
    }
}

impl Default for PlainNear {
    fn default() -> Self {
        Self::new()
    }
}

impl Near<u64, u64> for PlainNear {
    fn off() -> Self {
        Self(None)
    }

    fn get<Q: BorrowedKey<u64> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> Option<Arc<Entry<u64>>> {
        self.0.as_ref()?.lock().get(&key.key.to_key()).cloned()
    }

    fn holds<Q: BorrowedKey<u64> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) -> bool {
        self.0.as_ref().is_some_and(|entries| entries.lock().contains_key(&key.key.to_key()))
    }

    fn insert(&self, key: TenantKey<u64>, entry: Arc<Entry<u64>>) {
        if let Some(entries) = &self.0 {
            entries.lock().insert(key.key, entry);
        }
    }

    fn remove<Q: BorrowedKey<u64> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) {
        if let Some(entries) = &self.0 {
            entries.lock().remove(&key.key.to_key());
        }
    }

    fn clear(&self, _tenant: Option<TenantId>) {
        if let Some(entries) = &self.0 {
            entries.lock().clear();
        }
    }

    fn size(&self) -> NearSize {
        let entries = self.0.as_ref().map_or(0, |entries| entries.lock().len() as u64);
        NearSize { entries, weight: entries }
    }

    fn is_enabled(&self) -> bool {
        self.0.is_some()
    }
}
