//! Single flight means that at most one lookup and one load of a key run at a time, for all methods. The
//! table of flights also fences reads against writes of the same process.
//!
//! A key has a slot in the table while it is written, or read from beyond the near tier. A read joins
//! the slot's flight. A write detaches the flight: later reads begin a new flight, and the near tier
//! does not keep the value of the detached flight. The near tier is changed only under the lock of the
//! key's slot.

mod intent;
#[cfg(all(test, shuttle))]
mod model;
mod promise;
mod stage;
mod sync;
mod table;
mod ticket;

use intent::Flight;
pub(crate) use intent::{FlightId, Intent, JoinMode};
pub(crate) use promise::Promise;
use stage::LoadStage;
pub(crate) use stage::{LeaderGuard, LoadOutcome, LoadRole};
use table::{ActiveFlight, Shard};
pub(crate) use ticket::{Ticket, WriteTicket};

use std::{
    hash::{BuildHasher, Hash},
    sync::{Arc, atomic::AtomicBool},
};

use hashbrown::DefaultHashBuilder;

use terrace_tier::defence::{Defence, enabled};

/// All flights and writes under way. The table is split into shards, so that threads seldom wait for a
/// lock.
pub(crate) struct Flights<K, L, T> {
    shards: Box<[Arc<Shard<K, L, T>>]>,
    hasher: DefaultHashBuilder,
}

const SHARDS: usize = 64;

impl<K: Eq + Hash, L, T: Clone> Flights<K, L, T> {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Arc::new(Shard::new())).collect();
        Self { shards, hasher: DefaultHashBuilder::default() }
    }

    /// Joins the key's flight. If there is no flight that `mode` permits to join, begins a flight with
    /// the lookup that `lookup` makes.
    pub(crate) fn join(
        &self,
        key: &Arc<K>,
        intent: Intent,
        mode: JoinMode,
        lookup: impl FnOnce(FlightId) -> L,
    ) -> Ticket<K, L, T> {
        let (hash, shard) = self.shard(key);
        let ticket = |flight: Arc<Flight<L, T>>, joined| {
            let (shard, key) = (Arc::clone(shard), Arc::clone(key));
            Ticket { shard, key, flight, intent, joined }
        };
        let mut table = shard.lock();
        let (number, slot) = table.begin(hash, key);
        if let Some(active) = slot.flight.as_mut().filter(|active| mode.joins(active.leader)) {
            active.callers += 1;
            active.loaders += usize::from(intent.loads());
            return ticket(Arc::clone(&active.flight), true);
        }
        let id = FlightId { number, hash };
        let beside = mode == JoinMode::Separate && slot.flight.is_some();
        let (lookup, load) = (lookup(id), LoadStage::new());
        let flight = Arc::new(Flight { id, lookup, load, detached: AtomicBool::new(beside) });
        let mut replaced = None;
        if !beside {
            replaced = slot.take_flight();
            let (flight, loaders) = (Arc::clone(&flight), usize::from(intent.loads()));
            slot.flight = Some(ActiveFlight { flight, leader: intent, callers: 1, loaders });
        }
        drop(table);
        drop(replaced);
        ticket(flight, false)
    }

    /// Ends the lookup stage of a flight. Runs `keep` if no write has detached the flight. Detaches the
    /// flight if it found its value, or if none of its callers has a loader, so that the next reader
    /// looks up again.
    pub(crate) fn end_lookup<R>(
        &self,
        key: &K,
        id: FlightId,
        found: bool,
        keep: impl FnOnce() -> R,
    ) -> Option<R> {
        let mut table = self.at(id.hash).lock();
        let kept = table.has(key, id).then(keep);
        let detach = |active: &ActiveFlight<L, T>| active.flight.id == id && (found || active.loaders == 0);
        let detached = table.detach_if(id.hash, key, detach);
        drop(table);
        drop(detached);
        kept
    }

    /// Detaches a flight whose load has ended.
    pub(crate) fn complete(&self, key: &K, id: FlightId) {
        let mut table = self.at(id.hash).lock();
        let detached = table.detach_if(id.hash, key, |active| active.flight.id == id);
        drop(table);
        drop(detached);
    }

    /// Runs `keep` if no write has detached the flight.
    pub(crate) fn while_attached<R>(&self, key: &K, id: FlightId, keep: impl FnOnce() -> R) -> Option<R> {
        let table = self.at(id.hash).lock();
        table.has(key, id).then(keep)
    }

    /// Whether no write of the key is under way or has detached the flight.
    pub(crate) fn is_undisturbed(&self, key: &K, id: FlightId) -> bool {
        let table = self.at(id.hash).lock();
        table.has(key, id) && table.find(id.hash, key).is_some_and(|slot| slot.writers == 0)
    }

    /// Whether the key has a flight under way.
    pub(crate) fn is_active(&self, key: &K) -> bool {
        let (hash, shard) = self.shard(key);
        shard.lock().find(hash, key).is_some_and(|slot| slot.flight.is_some())
    }

    /// Begins a write that also changes other tiers.
    pub(crate) fn begin_write(&self, key: &Arc<K>) -> WriteTicket<K, L, T> {
        let (hash, shard) = self.shard(key);
        let mut table = shard.lock();
        let (_, slot) = table.begin(hash, key);
        slot.writers += 1;
        WriteTicket { shard: Arc::clone(shard), key: Arc::clone(key), hash, changes: slot.changes }
    }

    /// Writes to the near tier alone: detaches the key's flight and runs `change` under one lock.
    pub(crate) fn write_now<R>(&self, key: &K, change: impl FnOnce() -> R) -> R {
        let (hash, shard) = self.shard(key);
        let mut table = shard.lock();
        if let Some(slot) = table.find_mut(hash, key) {
            slot.changes += 1;
        }
        let detached = table.detach_if(hash, key, |_| true);
        let result = change();
        drop(table);
        drop(detached);
        result
    }

    /// Handles a report of the log that another process wrote this version. After such a report, a write
    /// under way in this process keeps its value in the near tier only if that value is as new as the
    /// reported version. Where the near tier is `outdated`, detaches the key's flight and runs `change`,
    /// under one lock.
    pub(crate) fn notice(
        &self,
        key: &K,
        version: u64,
        outdated: impl FnOnce() -> bool,
        change: impl FnOnce(),
    ) {
        let (hash, shard) = self.shard(key);
        let mut table = shard.lock();
        if let Some(slot) = table.find_mut(hash, key).filter(|_| enabled(Defence::Notified)) {
            slot.noticed = slot.noticed.max(version);
        }
        if !outdated() {
            return;
        }
        // Also a flight that began after the change: no version tells, since a lease has no place among the versions
        // of writes where the tier's clock stands still or goes back.
        let detached = table.detach_if(hash, key, |_| enabled(Defence::NoticeDetaches));
        change();
        drop(table);
        drop(detached);
    }

    /// Detaches the flights of all keys that `of` picks. Writes of these keys that are under way leave
    /// no value in the near tier.
    pub(crate) fn detach_all(&self, of: impl Fn(&K) -> bool) {
        for shard in &self.shards {
            let detached = shard.lock().detach_all(&of);
            drop(detached);
        }
    }

    /// The number of keys with a flight or a write under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: &K) -> (u64, &Arc<Shard<K, L, T>>) {
        let hash = self.hasher.hash_one(key);
        (hash, self.at(hash))
    }

    fn at(&self, hash: u64) -> &Arc<Shard<K, L, T>> {
        // The low bits choose the bucket within a shard, so other bits choose the shard.
        &self.shards[(hash >> 48) as usize % SHARDS]
    }
}
