//! Readers and writers hold tickets while they take part in a flight or a write.

use std::{
    hash::Hash,
    sync::{Arc, atomic::Ordering},
};

use super::{
    intent::{Flight, Intent},
    table::{ActiveFlight, Shard, Table},
};
use terrace_tier::defence::{Defence, enabled};

/// A caller's part in a flight. The last ticket that is dropped takes the flight out of the table. The
/// last ticket with a loader does the same, because later readers must look up again if no caller can
/// load.
pub(crate) struct Ticket<K: Eq + Hash, L, T: Clone> {
    pub(super) shard: Arc<Shard<K, L, T>>,
    pub(super) key: Arc<K>,
    pub(super) flight: Arc<Flight<L, T>>,
    pub(super) intent: Intent,
    pub(super) joined: bool,
}

impl<K: Eq + Hash, L, T: Clone> Ticket<K, L, T> {
    pub(crate) fn flight(&self) -> &Flight<L, T> {
        &self.flight
    }

    pub(crate) fn key(&self) -> &Arc<K> {
        &self.key
    }

    /// The intent with which the caller joined the flight.
    pub(crate) fn intent(&self) -> Intent {
        self.intent
    }

    /// Takes the flight out of the table, so that the next reader begins another one.
    pub(crate) fn detach(&self) {
        let mut table = self.shard.lock();
        let id = self.flight.id;
        let detached = table.detach_if(id.hash, &self.key, |active| active.flight.id == id);
        drop(table);
        drop(detached);
    }

    /// Whether another caller began the flight.
    pub(crate) fn joined(&self) -> bool {
        self.joined
    }
}

/// The ticket's flight, if it is still attached.
fn current<'a, K: Eq + Hash, L, T: Clone>(
    table: &'a mut Table<K, L, T>,
    ticket: &Ticket<K, L, T>,
) -> Option<&'a mut ActiveFlight<L, T>> {
    let id = ticket.flight.id;
    let slot = table.find_mut(id.hash, &ticket.key)?;
    slot.flight.as_mut().filter(|active| active.flight.id == id)
}

impl<K: Eq + Hash, L, T: Clone> Drop for Ticket<K, L, T> {
    fn drop(&mut self) {
        if self.flight.detached.load(Ordering::Acquire) {
            return;
        }
        let mut table = self.shard.lock();
        let Some(active) = current(&mut table, self) else { return };
        active.callers -= 1;
        active.loaders -= usize::from(self.intent.loads());
        let last_loader = self.intent.loads() && active.loaders == 0;
        if active.callers == 0 || last_loader {
            let detached = table.detach_if(self.flight.id.hash, &self.key, |_| true);
            drop(table);
            drop(detached);
        }
    }
}

/// The ticket of a write under way.
pub(crate) struct WriteTicket<K: Eq + Hash, L, T: Clone> {
    pub(super) shard: Arc<Shard<K, L, T>>,
    pub(super) key: Arc<K>,
    pub(super) hash: u64,
    pub(super) changes: u64,
}

impl<K: Eq + Hash, L, T: Clone> WriteTicket<K, L, T> {
    /// Ends a write of this version: detaches the key's flight and runs `change`, under one lock.
    ///
    /// The argument of `change` says whether the near tier may keep the value. The near tier may keep
    /// the value if no other write of the key has ended since this write began, and the log has reported
    /// no newer version. If the near tier may not keep the value, this process does not know which write
    /// of the key is the last.
    pub(crate) fn finish<R>(self, version: u64, change: impl FnOnce(bool) -> R) -> R {
        let mut table = self.shard.lock();
        let mut alone = true;
        let mut detached = None;
        if let Some(slot) = table.find_mut(self.hash, &self.key) {
            let newest = slot.changes == self.changes && slot.noticed <= version;
            alone = newest || !enabled(Defence::WriteOrder);
            slot.changes += 1;
            detached = if enabled(Defence::Detach) { slot.take_flight() } else { None };
        }
        let result = change(alone);
        drop(table);
        drop(detached);
        result
    }
}

impl<K: Eq + Hash, L, T: Clone> Drop for WriteTicket<K, L, T> {
    fn drop(&mut self) {
        let mut table = self.shard.lock();
        if let Some(slot) = table.find_mut(self.hash, &self.key) {
            slot.writers -= 1;
        }
        drop(table.detach_if(self.hash, &self.key, |_| false));
    }
}
