//! Hit ratios of LRU over capacities.

use serde::{Deserialize, Serialize};

use super::StackDistances;

/// One capacity of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CurvePoint {
    /// The capacity in entries.
    pub(crate) capacity: u64,
    /// The share of reads that hit, from 0 to 1.
    pub(crate) hit_ratio: f64,
}

/// The counts from which the hit ratio at any capacity follows.
#[derive(Default)]
pub(crate) struct Curve {
    distances: StackDistances,
    /// How many reads had each distance.
    counts: Vec<u64>,
    reads: u64,
}

impl Curve {
    /// Notes a read.
    pub(crate) fn read(&mut self, key: u64) {
        self.reads += 1;
        if let Some(distance) = self.distances.use_key(key) {
            let distance = distance as usize;
            if self.counts.len() <= distance {
                self.counts.resize((distance + 1).next_power_of_two(), 0);
            }
            self.counts[distance] += 1;
        }
    }

    /// Notes a write: the key is used, and nothing is read.
    pub(crate) fn write(&mut self, key: u64) {
        self.distances.use_key(key);
    }

    /// Notes that a key was dropped.
    pub(crate) fn remove(&mut self, key: u64) {
        self.distances.remove(key);
    }

    /// The number of reads.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// The number of keys that are not dropped.
    pub(crate) fn keys(&self) -> u64 {
        self.distances.keys() as u64
    }

    /// The number of reads that an LRU cache of this capacity answers.
    pub(crate) fn hits(&self, capacity: u64) -> u64 {
        self.counts.iter().take(usize::try_from(capacity).unwrap_or(usize::MAX)).sum()
    }

    /// The share of reads that an LRU cache of this capacity answers.
    pub(crate) fn hit_ratio(&self, capacity: u64) -> f64 {
        self.hits(capacity) as f64 / self.reads.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_hits_once_the_cache_holds_all_of_it() {
        let mut curve = Curve::default();
        (0..10).for_each(|_| (0..100).for_each(|key| curve.read(key)));
        assert_eq!((curve.hits(99), curve.hits(100)), (0, 900));
        assert_eq!((curve.reads(), curve.keys()), (1_000, 100));
    }

    #[test]
    fn a_dropped_key_misses_and_a_written_one_hits() {
        let mut curve = Curve::default();
        curve.write(1);
        curve.read(1);
        curve.remove(1);
        curve.read(1);
        assert_eq!((curve.hits(1), curve.reads()), (1, 2));
    }
}
