//! The table of flights has a slot for each key that is written, or read from beyond the near tier.

use std::{
    hash::Hash,
    sync::{Arc, atomic::Ordering},
};

use hashbrown::HashTable;

use super::intent::{Flight, FlightId, Intent};
use super::sync::{Mutex, MutexGuard};
use terrace_tier::defence::{Defence, enabled};

/// A shard of the table, with the slots of some of the keys. A ticket counts references to its shard,
/// whose cache line the caller has just locked. One reference count for the whole table would move
/// between the cores of all callers.
#[repr(align(128))]
pub(crate) struct Shard<K, L, T>(Mutex<Table<K, L, T>>);

pub(super) struct Table<K, L, T> {
    slots: HashTable<Slot<K, L, T>>,
    /// The number of flights and writes that have begun in this shard.
    begun: u64,
}

pub(super) struct Slot<K, L, T> {
    key: Arc<K>,
    hash: u64,
    pub(super) flight: Option<ActiveFlight<L, T>>,
    /// The number of writes of the key under way.
    pub(super) writers: usize,
    /// The number of writes that have reached the near tier since the slot was made.
    pub(super) changes: u64,
    /// The newest version that the log has reported since the slot was made.
    pub(super) noticed: u64,
}

pub(super) struct ActiveFlight<L, T> {
    pub(super) flight: Arc<Flight<L, T>>,
    /// The intent of the flight's first caller, for which the lookup was made.
    pub(super) leader: Intent,
    pub(super) callers: usize,
    pub(super) loaders: usize,
}

impl<K, L, T> Slot<K, L, T> {
    /// Takes the slot's flight out of the table and sets its `detached` flag, under the shard's lock.
    pub(super) fn take_flight(&mut self) -> Option<ActiveFlight<L, T>> {
        self.flight.take().inspect(|active| active.flight.detached.store(true, Ordering::Release))
    }
}

impl<K: Eq + Hash, L, T> Shard<K, L, T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Table { slots: HashTable::new(), begun: 0 }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table<K, L, T>> {
        self.0.lock()
    }
}

impl<K: Eq + Hash, L, T> Table<K, L, T> {
    /// Returns the key's slot, which is made if there is none, and the number of the flight or write
    /// that begins.
    pub(super) fn begin(&mut self, hash: u64, key: &Arc<K>) -> (u64, &mut Slot<K, L, T>) {
        self.begun += 1;
        let slot = self.slots.entry(hash, |slot| slot.key == *key, |slot| slot.hash).or_insert_with(|| {
            Slot { key: Arc::clone(key), hash, flight: None, writers: 0, changes: 0, noticed: 0 }
        });
        (self.begun, slot.into_mut())
    }

    pub(super) fn find(&self, hash: u64, key: &K) -> Option<&Slot<K, L, T>> {
        self.slots.find(hash, |slot| *slot.key == *key)
    }

    pub(super) fn find_mut(&mut self, hash: u64, key: &K) -> Option<&mut Slot<K, L, T>> {
        self.slots.find_mut(hash, |slot| *slot.key == *key)
    }

    /// Whether the key's slot still has the flight with this id.
    pub(super) fn has(&self, key: &K, id: FlightId) -> bool {
        let slot = self.find(id.hash, key);
        let has = slot.and_then(|slot| slot.flight.as_ref()).is_some_and(|active| active.flight.id == id);
        has || !enabled(Defence::Generation)
    }

    /// Takes the key's flight out of the table if it is `wanted`, and removes a slot without a flight
    /// and writers. The caller drops the returned flight after the lock, because the flight's lookup may
    /// own values whose destructors run user code.
    pub(super) fn detach_if(
        &mut self,
        hash: u64,
        key: &K,
        wanted: impl FnOnce(&ActiveFlight<L, T>) -> bool,
    ) -> Option<ActiveFlight<L, T>> {
        let mut entry = self.slots.find_entry(hash, |slot| *slot.key == *key).ok()?;
        let slot = entry.get_mut();
        let detached = if slot.flight.as_ref().is_some_and(wanted) { slot.take_flight() } else { None };
        if slot.flight.is_none() && slot.writers == 0 {
            entry.remove();
        }
        detached
    }

    /// Takes the flights of all keys that `of` picks out of the table, and counts a change of each of
    /// these keys.
    pub(super) fn detach_all(&mut self, of: impl Fn(&K) -> bool) -> Vec<ActiveFlight<L, T>> {
        let mut detached = Vec::new();
        self.slots.retain(|slot| {
            if of(&slot.key) {
                slot.changes += 1;
                detached.extend(slot.take_flight());
            }
            slot.flight.is_some() || slot.writers > 0
        });
        detached
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
