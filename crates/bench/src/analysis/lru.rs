//! An LRU cache of keys, as it is.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

/// The keys of an LRU cache. The memory in use grows with the capacity alone.
pub(super) struct Lru {
    capacity: usize,
    /// The time of the last use of each key, and the keys in the order of these times.
    times: HashMap<u64, u64, FixedState>,
    keys: BTreeMap<u64, u64>,
    now: u64,
}

impl Lru {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, times: HashMap::default(), keys: BTreeMap::new(), now: 0 }
    }

    /// Uses a key. The result says whether the cache had it.
    pub(super) fn use_key(&mut self, key: u64) -> bool {
        let had = self.remove(key);
        if self.keys.len() == self.capacity
            && let Some((_, oldest)) = self.keys.pop_first()
        {
            self.times.remove(&oldest);
        }
        self.now += 1;
        self.times.insert(key, self.now);
        self.keys.insert(self.now, key);
        had
    }

    /// Drops a key. The result says whether the cache had it.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let time = self.times.remove(&key);
        time.is_some_and(|time| self.keys.remove(&time).is_some())
    }
}
