//! Single flight: one lookup and one load a key at a time, for all methods, and the fence between
//! reads and writes of one process.
//!
//! Each key that is being read from beyond the near tier, or written, has a slot. A read boards
//! the slot's flight; a write detaches it, so that later reads start anew and what the flight
//! brings is kept nowhere. Only under the slot's lock is anything put into the near tier.

#[cfg(all(test, shuttle))]
mod model;
mod promise;
mod stage;
mod ticket;

use stage::LoadStage;
pub(crate) use stage::{Entered, Landing, Lead};
pub(crate) use ticket::{Ticket, WriteTicket};

use std::{
    hash::{BuildHasher, Hash},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::sync::{Mutex, MutexGuard};

/// Names one flight in its process, and says where its key is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlightId {
    number: u64,
    hash: u64,
}

/// One key's way through the tiers: a lookup that every reader may share, then a load that only
/// callers with a loader join.
pub(crate) struct Flight<L, T> {
    pub(crate) id: FlightId,
    pub(crate) lookup: L,
    pub(crate) load: LoadStage<T>,
    /// Off the table, for good: whoever leaves it has nothing to do there.
    detached: AtomicBool,
}

/// What a caller boards a flight for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// To read what the tiers have.
    Read,
    /// To load what they have not.
    Load,
    /// To load anew what they have only stale.
    Renew,
    /// To load anew, whatever they have.
    Anew,
}

impl Errand {
    /// Whether it may go on to the load stage.
    pub(crate) fn loads(self) -> bool {
        self != Self::Read
    }
}

/// Which flight a caller gets where one of its key is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boarding {
    /// That one.
    Join,
    /// That one if its lookup is made for a load, else a new one in its place.
    JoinLoad,
    /// A new one beside it, off the table: what this one brings is kept nowhere.
    Beside,
    /// A new one in its place: what that one brings is kept nowhere.
    Replace,
}

impl Boarding {
    fn joins<L, T>(self, aboard: &Aboard<L, T>) -> bool {
        self == Self::Join || (self == Self::JoinLoad && aboard.leader.loads())
    }
}

/// All flights and writes under way.
pub(crate) struct Flights<K, L, T> {
    shards: Box<[Mutex<Table<K, L, T>>]>,
    hasher: DefaultHashBuilder,
    ids: AtomicU64,
}

type Table<K, L, T> = HashTable<Slot<K, L, T>>;

struct Slot<K, L, T> {
    key: Arc<K>,
    flight: Option<Aboard<L, T>>,
    /// Writes under way.
    writers: usize,
    /// Writes that have reached the near tier since the slot was made.
    changes: u64,
}

struct Aboard<L, T> {
    flight: Arc<Flight<L, T>>,
    /// What its first caller came for, and so its lookup.
    leader: Errand,
    callers: usize,
    loaders: usize,
}

impl<K, L, T> Slot<K, L, T> {
    fn take_flight(&mut self) -> Option<Aboard<L, T>> {
        self.flight.take().inspect(Aboard::detached)
    }
}

impl<L, T> Aboard<L, T> {
    /// Said under the shard's lock, in the breath that takes the flight out.
    fn detached(&self) {
        self.flight.detached.store(true, Ordering::Release);
    }
}

const SHARDS: usize = 64;

impl<K: Eq + Hash, L, T: Clone> Flights<K, L, T> {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            hasher: DefaultHashBuilder::default(),
            ids: AtomicU64::new(1),
        }
    }

    /// Boards the key's flight; where there is none to board, a new one with the lookup that `lookup`
    /// makes.
    pub(crate) fn board(
        self: &Arc<Self>,
        key: &Arc<K>,
        errand: Errand,
        how: Boarding,
        lookup: impl FnOnce(FlightId) -> L,
    ) -> Ticket<K, L, T> {
        let (hash, mut shard) = self.shard(key);
        let slot = self.slot(&mut shard, hash, key);
        let ticket = |flight: Arc<Flight<L, T>>, joined| {
            let (flights, key) = (Arc::clone(self), Arc::clone(key));
            Ticket { flights, key, flight, errand, joined }
        };
        if let Some(aboard) = slot.flight.as_mut().filter(|aboard| how.joins(aboard)) {
            aboard.callers += 1;
            aboard.loaders += usize::from(errand.loads());
            return ticket(Arc::clone(&aboard.flight), true);
        }
        let id = FlightId { number: self.ids.fetch_add(1, Ordering::Relaxed), hash };
        let beside = how == Boarding::Beside && slot.flight.is_some();
        let (lookup, load) = (lookup(id), LoadStage::new());
        let flight = Arc::new(Flight { id, lookup, load, detached: AtomicBool::new(beside) });
        let mut replaced = None;
        if !beside {
            replaced = slot.take_flight();
            let (flight, loaders) = (Arc::clone(&flight), usize::from(errand.loads()));
            slot.flight = Some(Aboard { flight, leader: errand, callers: 1, loaders });
        }
        drop(shard);
        drop(replaced);
        ticket(flight, false)
    }

    /// Ends the lookup stage: runs `keep` if no write has come between since the flight began, and
    /// detaches a flight that found its value, or that nobody aboard wants to load for, so that the
    /// next reader looks again.
    pub(crate) fn end_lookup<R>(
        &self,
        key: &K,
        id: FlightId,
        found: bool,
        keep: impl FnOnce() -> R,
    ) -> Option<R> {
        let mut shard = self.at(id.hash).lock();
        let kept = attached(&shard, key, id).then(keep);
        let detach = |aboard: &Aboard<L, T>| aboard.flight.id == id && (found || aboard.loaders == 0);
        let detached = self.detach_if(&mut shard, id.hash, key, detach);
        drop(shard);
        drop(detached);
        kept
    }

    /// Detaches the flight: it has landed.
    pub(crate) fn land(&self, key: &K, id: FlightId) {
        let mut shard = self.at(id.hash).lock();
        let detached = self.detach_if(&mut shard, id.hash, key, |aboard| aboard.flight.id == id);
        drop(shard);
        drop(detached);
    }

    /// Runs `keep` if no write has come between since the flight began.
    pub(crate) fn while_attached<R>(&self, key: &K, id: FlightId, keep: impl FnOnce() -> R) -> Option<R> {
        let shard = self.at(id.hash).lock();
        attached(&shard, key, id).then(keep)
    }

    /// Whether no write of the key has begun since before the flight did.
    pub(crate) fn is_undisturbed(&self, key: &K, id: FlightId) -> bool {
        let shard = self.at(id.hash).lock();
        let slot = shard.find(id.hash, |slot| *slot.key == *key);
        slot.is_some_and(|slot| {
            slot.writers == 0 && slot.flight.as_ref().is_some_and(|aboard| aboard.flight.id == id)
        })
    }

    /// Whether a flight of the key is under way.
    pub(crate) fn is_flying(&self, key: &K) -> bool {
        let (hash, shard) = self.shard(key);
        shard.find(hash, |slot| *slot.key == *key).is_some_and(|slot| slot.flight.is_some())
    }

    /// Begins a write that takes its time in other tiers.
    pub(crate) fn begin_write(self: &Arc<Self>, key: &Arc<K>) -> WriteTicket<K, L, T> {
        let (hash, mut shard) = self.shard(key);
        let slot = self.slot(&mut shard, hash, key);
        slot.writers += 1;
        WriteTicket { flights: Arc::clone(self), key: Arc::clone(key), hash, changes: slot.changes }
    }

    /// Detaches the key's flight and runs `change` in the same breath: a write that reaches no
    /// other tier.
    pub(crate) fn write_now<R>(&self, key: &K, change: impl FnOnce() -> R) -> R {
        let (hash, mut shard) = self.shard(key);
        if let Some(slot) = shard.find_mut(hash, |slot| *slot.key == *key) {
            slot.changes += 1;
        }
        let detached = self.detach_if(&mut shard, hash, key, |_| true);
        let result = change();
        drop(shard);
        drop(detached);
        result
    }

    /// Detaches all flights of the keys that `of` picks and makes the writes under way keep
    /// nothing.
    pub(crate) fn detach_all(&self, of: impl Fn(&K) -> bool) {
        for shard in &self.shards {
            let mut detached = Vec::new();
            let mut shard = shard.lock();
            shard.retain(|slot| {
                if of(&slot.key) {
                    slot.changes += 1;
                    detached.extend(slot.take_flight());
                }
                slot.flight.is_some() || slot.writers > 0
            });
            drop(shard);
        }
    }

    /// Keys with a flight or a write under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: &K) -> (u64, MutexGuard<'_, Table<K, L, T>>) {
        let hash = self.hasher.hash_one(key);
        (hash, self.at(hash).lock())
    }

    fn at(&self, hash: u64) -> &Mutex<Table<K, L, T>> {
        // The low bits choose the bucket within a shard, so the shard is chosen by other ones.
        &self.shards[(hash >> 48) as usize % SHARDS]
    }

    fn slot<'a>(&self, shard: &'a mut Table<K, L, T>, hash: u64, key: &Arc<K>) -> &'a mut Slot<K, L, T> {
        shard
            .entry(hash, |slot| slot.key == *key, |slot| self.hasher.hash_one(&slot.key))
            .or_insert_with(|| Slot { key: Arc::clone(key), flight: None, writers: 0, changes: 0 })
            .into_mut()
    }

    /// Takes the flight out, and the slot with it if nobody needs it. The flight is returned so
    /// that it is dropped after the lock: its lookup may hold the last reference to anything.
    fn detach_if(
        &self,
        shard: &mut Table<K, L, T>,
        hash: u64,
        key: &K,
        wanted: impl FnOnce(&Aboard<L, T>) -> bool,
    ) -> Option<Aboard<L, T>> {
        let mut entry = shard.find_entry(hash, |slot| *slot.key == *key).ok()?;
        let slot = entry.get_mut();
        let detached = if slot.flight.as_ref().is_some_and(wanted) { slot.take_flight() } else { None };
        if slot.flight.is_none() && slot.writers == 0 {
            entry.remove();
        }
        detached
    }
}

/// Whether the key's flight is still this one.
fn attached<K: Eq, L, T>(shard: &Table<K, L, T>, key: &K, id: FlightId) -> bool {
    let slot = shard.find(id.hash, |slot| *slot.key == *key);
    slot.and_then(|slot| slot.flight.as_ref()).is_some_and(|aboard| aboard.flight.id == id)
}
