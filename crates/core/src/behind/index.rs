//! The dirty index: what the front has acknowledged and the store does not have yet.
//!
//! The index is the queue: one entry a key, in which the newest write wins, in the order in which the keys became
//! dirty. It knows no tier and no time but what its caller gives.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use terrace_tier::{
    Deadlines, TierKey, Version,
    defence::{Defence, enabled},
};
use tokio::time::Instant;

use crate::{Error, chain::Chain};

/// The bytes that a dirty key counts beside its key and value.
const ENTRY_BYTES: usize = 256;

/// A write that the front has acknowledged.
#[derive(Clone)]
pub(super) struct DirtyWrite {
    pub(super) key: TierKey,
    /// The tiers of the key's tenant.
    pub(super) chain: Arc<Chain>,
    pub(super) version: Version,
    /// The deadlines of the record.
    pub(super) deadlines: Deadlines,
    /// The deadlines of the copies, or `None` where the copies are to be dropped.
    pub(super) copies: Option<Deadlines>,
    /// The envelope, or `None` for a removal.
    pub(super) body: Option<Bytes>,
}

impl DirtyWrite {
    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES + self.key.bytes.len() + self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// What becomes of a dirty key.
#[derive(Clone)]
pub(super) enum Progress {
    /// It waits for its flush.
    Waiting,
    /// A flush of this version is under way.
    Flushing,
    /// The store refuses the write for good.
    Dead(Error),
}

/// A key with a write that the store does not have.
pub(super) struct DirtyKey {
    pub(super) write: DirtyWrite,
    pub(super) progress: Progress,
    /// The oldest version that is not flushed.
    pub(super) oldest: Version,
    /// When the oldest write that is not flushed was acknowledged.
    pub(super) since: Instant,
    /// When the newest one was.
    newest_at: Instant,
    /// How often the store has refused the write.
    pub(super) refusals: u32,
    place: u64,
}

/// A key that is dirty, or that a write is about to make dirty.
#[derive(Default)]
struct Slot {
    dirty: Option<DirtyKey>,
    /// The callers that need the slot's counts.
    pins: usize,
    /// The writes that have a version and are not acknowledged yet.
    pending: usize,
    /// The versions that were issued while the slot exists.
    changes: u64,
}

/// What a conditional write finds of its key.
pub(super) struct Found {
    pub(super) write: Option<DirtyWrite>,
    /// Whether an earlier write of the key has a version and is not acknowledged yet.
    pub(super) is_pending: bool,
    pub(super) changes: u64,
}

#[derive(Default)]
pub(super) struct DirtyIndex {
    slots: HashMap<[u8; 16], Slot>,
    /// The keys that are no dead letters, in the order in which they became dirty.
    queue: BTreeMap<u64, [u8; 16]>,
    places: u64,
    bytes: usize,
    dead: usize,
    high: Version,
}

impl DirtyIndex {
    pub(super) fn keys(&self) -> usize {
        self.queue.len() + self.dead
    }

    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn high(&self) -> Version {
        self.high
    }

    /// Every version that is issued from now on is above `high`.
    pub(super) fn raise(&mut self, high: Version) {
        if enabled(Defence::OpenHigh) {
            self.high = self.high.max(high);
        }
    }

    /// The oldest dirty key that is no dead letter.
    pub(super) fn oldest(&self) -> Option<&DirtyKey> {
        self.queue.values().next().and_then(|digest| self.get(digest))
    }

    pub(super) fn get(&self, digest: &[u8; 16]) -> Option<&DirtyKey> {
        self.slots.get(digest)?.dirty.as_ref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &DirtyKey> {
        self.slots.values().filter_map(|slot| slot.dirty.as_ref())
    }

    /// Keeps the slot of a key until [`unpin`](Self::unpin), and says what is there.
    pub(super) fn pin(&mut self, digest: &[u8; 16]) -> Found {
        let slot = self.slots.entry(*digest).or_default();
        slot.pins += 1;
        slot.found()
    }

    pub(super) fn pinned(&self, digest: &[u8; 16]) -> Found {
        self.slots.get(digest).map_or_else(|| Slot::default().found(), Slot::found)
    }

    pub(super) fn unpin(&mut self, digest: &[u8; 16]) {
        if let Some(slot) = self.slots.get_mut(digest) {
            slot.pins -= 1;
        }
        self.forget_if_unused(digest);
    }

    /// Issues the version of a write, which [`acknowledge`](Self::acknowledge) or [`give_up`](Self::give_up) ends.
    pub(super) fn issue(&mut self, digest: &[u8; 16], micros: u64) -> Version {
        let slot = self.slots.entry(*digest).or_default();
        slot.pending += 1;
        slot.changes += 1;
        let own = slot.dirty.as_ref().map_or(Version::NONE, |dirty| dirty.write.version);
        let floor = if enabled(Defence::High) { self.high.max(own) } else { own };
        let version = floor.next(micros);
        self.high = self.high.max(version);
        version
    }

    /// Ends a write that was not acknowledged.
    pub(super) fn give_up(&mut self, digest: &[u8; 16]) {
        if let Some(slot) = self.slots.get_mut(digest) {
            slot.pending -= 1;
        }
        self.forget_if_unused(digest);
    }

    /// Acknowledges a write: from now on reads find it, unless a newer one was acknowledged before. The result
    /// says whether it took the place of a write that was not flushed.
    pub(super) fn acknowledge(&mut self, write: DirtyWrite, now: Instant) -> bool {
        let digest = write.key.digest;
        if let Some(slot) = self.slots.get_mut(&digest) {
            slot.pending = slot.pending.saturating_sub(1);
        }
        self.restore(write, now)
    }

    /// As [`acknowledge`](Self::acknowledge), for a write that a journal has kept.
    pub(super) fn restore(&mut self, write: DirtyWrite, now: Instant) -> bool {
        self.high = self.high.max(write.version);
        let (digest, place) = (write.key.digest, self.places);
        let slot = self.slots.entry(digest).or_default();
        self.bytes += write.bytes();
        let coalesces = match &mut slot.dirty {
            Some(dirty) if dirty.write.version > write.version => {
                self.bytes -= write.bytes();
                dirty.oldest = dirty.oldest.min(write.version);
                return true;
            }
            Some(dirty) => {
                self.bytes -= dirty.write.bytes();
                dirty.write = write;
                dirty.newest_at = now;
                if !matches!(dirty.progress, Progress::Dead(_)) {
                    return true;
                }
                // A new write revives the key.
                self.dead -= 1;
                (dirty.progress, dirty.refusals, dirty.place) = (Progress::Waiting, 0, place);
                (dirty.oldest, dirty.since) = (dirty.write.version, now);
                true
            }
            empty => {
                let (oldest, progress) = (write.version, Progress::Waiting);
                let (since, newest_at, refusals) = (now, now, 0);
                *empty = Some(DirtyKey { write, progress, oldest, since, newest_at, refusals, place });
                false
            }
        };
        self.places += 1;
        self.queue.insert(place, digest);
        coalesces
    }

    /// Takes the writes that are due at `now`, at most `most`, in the order in which their keys became dirty.
    pub(super) fn take(&mut self, most: usize, is_due: impl Fn(&DirtyKey) -> bool) -> Vec<DirtyWrite> {
        let mut taken = Vec::new();
        for digest in self.queue.values() {
            let Some(dirty) = self.slots.get_mut(digest).and_then(|slot| slot.dirty.as_mut()) else {
                continue;
            };
            if taken.len() >= most {
                break;
            }
            if matches!(dirty.progress, Progress::Waiting) && is_due(dirty) {
                dirty.progress = Progress::Flushing;
                taken.push(dirty.write.clone());
            }
        }
        taken
    }

    /// Makes every flush that was under way wait again: its flusher has ended.
    pub(super) fn abandon_flushes(&mut self) {
        for dirty in self.slots.values_mut().filter_map(|slot| slot.dirty.as_mut()) {
            if matches!(dirty.progress, Progress::Flushing) {
                dirty.progress = Progress::Waiting;
            }
        }
    }

    /// The store has the write of this version, or a newer one: the key is clean unless a newer write came.
    pub(super) fn settle(&mut self, digest: &[u8; 16], flushed: Version) {
        let Some(slot) = self.slots.get_mut(digest) else { return };
        let Some(dirty) = &mut slot.dirty else { return };
        if dirty.write.version == flushed || !enabled(Defence::SettleVersion) {
            self.bytes -= dirty.write.bytes();
            match dirty.progress {
                Progress::Dead(_) => self.dead -= 1,
                _ => _ = self.queue.remove(&dirty.place),
            }
            slot.dirty = None;
            self.forget_if_unused(digest);
        } else {
            dirty.progress = Progress::Waiting;
            dirty.refusals = 0;
            dirty.oldest = if enabled(Defence::OldestWrite) { flushed.next(0) } else { dirty.write.version };
            dirty.since = dirty.newest_at;
            self.queue.remove(&dirty.place);
            dirty.place = self.places;
            self.queue.insert(self.places, *digest);
            self.places += 1;
        }
    }

    /// The write of this version waits for another flush. `refused` counts it as refused by the store; the
    /// result says how often that was.
    pub(super) fn wait_again(&mut self, digest: &[u8; 16], flushed: Version, refused: bool) -> u32 {
        let Some(dirty) = self.slots.get_mut(digest).and_then(|slot| slot.dirty.as_mut()) else { return 0 };
        if matches!(dirty.progress, Progress::Flushing) {
            dirty.progress = Progress::Waiting;
        }
        if dirty.write.version == flushed && refused {
            dirty.refusals += 1;
        }
        dirty.refusals
    }

    /// Makes a dead letter of the write of this version, unless a newer one came. The result says whether it did.
    pub(super) fn bury(&mut self, digest: &[u8; 16], version: Version, cause: Error) -> bool {
        let Some(dirty) = self.slots.get_mut(digest).and_then(|slot| slot.dirty.as_mut()) else {
            return false;
        };
        if dirty.write.version != version || matches!(dirty.progress, Progress::Dead(_)) {
            return false;
        }
        dirty.progress = Progress::Dead(cause);
        self.queue.remove(&dirty.place);
        self.dead += 1;
        true
    }

    /// Makes an ordinary write of a dead letter. The result says whether the key had one.
    pub(super) fn revive(&mut self, digest: &[u8; 16], now: Instant) -> bool {
        let Some(dirty) = self.slots.get_mut(digest).and_then(|slot| slot.dirty.as_mut()) else {
            return false;
        };
        if !matches!(dirty.progress, Progress::Dead(_)) {
            return false;
        }
        (dirty.progress, dirty.refusals, dirty.since, dirty.place) = (Progress::Waiting, 0, now, self.places);
        self.queue.insert(self.places, *digest);
        self.places += 1;
        self.dead -= 1;
        true
    }

    fn forget_if_unused(&mut self, digest: &[u8; 16]) {
        let is_unused = |slot: &Slot| slot.dirty.is_none() && slot.pins == 0 && slot.pending == 0;
        if self.slots.get(digest).is_some_and(is_unused) {
            self.slots.remove(digest);
        }
    }
}

impl Slot {
    fn found(&self) -> Found {
        let write = self.dirty.as_ref().map(|dirty| dirty.write.clone());
        Found { write, is_pending: self.pending > 0, changes: self.changes }
    }
}
