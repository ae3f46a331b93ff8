//! The best hit ratio that any cache of a capacity can have: it knows the future, evicts the key whose next
//! read is farthest away, and declines a key whose next read is farther away than those of all keys that it
//! has.
//!
//! Source: L. A. Belady, A study of replacement algorithms for a virtual-storage computer, IBM Systems Journal
//! 5(2), 1966; with the freedom to decline, as a cache in front of a store has it.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;

/// The reads of a workload, each with the time of the next read of its key: 4 bytes a read.
#[derive(Default)]
pub(crate) struct Optimum {
    next: Vec<u32>,
    /// The time of the last read of each key.
    last: HashMap<u64, u32, FixedState>,
}

/// There is no next read.
const NEVER: u32 = u32::MAX;

impl Optimum {
    /// The most reads that it takes: 400 MB of memory, and more for the keys.
    pub(crate) const MAX_READS: usize = 100_000_000;

    /// Notes a read. The result is `false`, and the read is not noted, once there are too many.
    pub(crate) fn read(&mut self, key: u64) -> bool {
        if self.next.len() == Self::MAX_READS {
            return false;
        }
        let now = self.next.len() as u32;
        if let Some(before) = self.last.insert(key, now) {
            self.next[before as usize] = now;
        }
        self.next.push(NEVER);
        true
    }

    /// The largest share of reads that a cache of this capacity can answer.
    pub(crate) fn hit_ratio(&self, capacity: u64) -> f64 {
        // The held keys by the time of their next read. No two keys have the same, but for `NEVER`.
        let mut held: BTreeSet<u32> = BTreeSet::new();
        let mut hits = 0_u64;
        for (now, &next) in (0_u32..).zip(&self.next) {
            // The key is held if this very read is the next one of a held key.
            if held.remove(&now) {
                hits += 1;
            }
            if next == NEVER || capacity == 0 {
                continue;
            }
            if (held.len() as u64) < capacity {
                held.insert(next);
            } else if held.last().is_some_and(|farthest| next < *farthest) {
                held.pop_last();
                held.insert(next);
            }
        }
        hits as f64 / self.next.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most hits by trying every choice.
    fn by_trial(keys: &[u64], held: &[u64], capacity: usize) -> u64 {
        let Some((key, rest)) = keys.split_first() else { return 0 };
        let hit = u64::from(held.contains(key));
        let mut best = by_trial(rest, held, capacity);
        if hit == 0 {
            let with = |held: &[u64]| held.iter().copied().chain([*key]).collect::<Vec<_>>();
            if held.len() < capacity {
                best = best.max(by_trial(rest, &with(held), capacity));
            }
            for evicted in 0..held.len() {
                let mut fewer = held.to_vec();
                fewer.remove(evicted);
                best = best.max(by_trial(rest, &with(&fewer), capacity));
            }
        }
        best + hit
    }

    #[test]
    fn no_choice_of_any_cache_has_more_hits() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..40 {
            let keys: Vec<u64> = (0..9).map(|_| random.u64(..5)).collect();
            let mut optimum = Optimum::default();
            keys.iter().for_each(|key| assert!(optimum.read(*key)));
            for capacity in 0..3 {
                let hits = (optimum.hit_ratio(capacity as u64) * 9.0).round() as u64;
                assert_eq!(hits, by_trial(&keys, &[], capacity), "{keys:?} at {capacity}");
            }
        }
    }
}
