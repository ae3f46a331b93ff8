//! The curve of LRU from a sample of the keys.
//!
//! A key is in the sample if its hash is below a threshold, so all uses of it are. Distances in the sample are
//! shorter by the rate of the sample. Source: C. Waldspurger et al., Efficient MRC construction with SHARDS, FAST
//! 2015.
//!
//! A sample has some hot keys too many or too few by chance, which moves all ratios. SHARDS-adj of that paper
//! corrects the number of reads alone, and is off by up to 1.7 points on real traces here. So this one also knows
//! the exact ratio at its smallest capacity, from an LRU of that size: the sample says only how the ratio rises
//! from there to that of a cache without a bound. See ADR 47.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use super::{Curve, lru::Lru};

/// The least number of sampled keys that a capacity must stand for. Below it the ratio is chance.
const LEAST_SAMPLE: f64 = 500.0;

/// A sampled curve. The memory in use grows with the sampled keys alone.
pub(crate) struct Shards {
    rate: f64,
    threshold: u64,
    hasher: FixedState,
    sample: Curve,
    /// All reads, also those out of the sample.
    reads: u64,
    /// An LRU of the smallest capacity, and how many of all reads it answers.
    smallest: Lru,
    smallest_hits: u64,
}

impl Shards {
    /// A sample of `rate` of the keys, above 0 and up to 1. Another seed samples other keys.
    pub(crate) fn new(rate: f64, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        let threshold = (rate * u64::MAX as f64) as u64;
        let smallest = Lru::new(least_capacity(rate) as usize);
        Self { rate, threshold, hasher, sample: Curve::default(), reads: 0, smallest, smallest_hits: 0 }
    }

    fn is_sampled(&self, key: u64) -> bool {
        self.hasher.hash_one(key) <= self.threshold
    }

    /// Notes a read.
    pub(crate) fn read(&mut self, key: u64) {
        self.reads += 1;
        self.smallest_hits += u64::from(self.smallest.use_key(key));
        if self.is_sampled(key) {
            self.sample.read(key);
        }
    }

    /// Notes a write.
    pub(crate) fn write(&mut self, key: u64) {
        self.smallest.use_key(key);
        if self.is_sampled(key) {
            self.sample.write(key);
        }
    }

    /// Notes that a key was dropped.
    pub(crate) fn remove(&mut self, key: u64) {
        self.smallest.remove(key);
        if self.is_sampled(key) {
            self.sample.remove(key);
        }
    }

    /// The number of sampled keys.
    pub(crate) fn keys(&self) -> u64 {
        self.sample.keys()
    }

    /// The smallest capacity for which the sample is large enough.
    pub(crate) fn least_capacity(&self) -> u64 {
        least_capacity(self.rate)
    }

    /// The share of reads that an LRU cache of this capacity answers, or `None` where the sample is too small.
    pub(crate) fn hit_ratio(&self, capacity: u64) -> Option<f64> {
        if capacity < self.least_capacity() || self.reads == 0 {
            return None;
        }
        let sampled = |capacity: u64| self.sample.hits((capacity as f64 * self.rate).round() as u64) as f64;
        let (smallest, all) = (sampled(self.least_capacity()), self.sample.hits(u64::MAX) as f64);
        // Without a bound each read misses that is the first of its key.
        let missed = (self.sample.reads() as f64 - all) / self.rate;
        let (low, high) =
            (self.smallest_hits as f64, (self.reads as f64 - missed).max(self.smallest_hits as f64));
        let share = if all > smallest { (sampled(capacity) - smallest) / (all - smallest) } else { 1.0 };
        Some((low + (high - low) * share) / self.reads as f64)
    }
}

fn least_capacity(rate: f64) -> u64 {
    (LEAST_SAMPLE / rate).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_all_keys_is_exact_and_a_small_one_is_refused() {
        let (mut all, mut tenth, mut curve) = (Shards::new(1.0, 1), Shards::new(0.1, 1), Curve::default());
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let most = random.u64(1..=20_000);
            let key = random.u64(..most);
            all.read(key);
            tenth.read(key);
            curve.read(key);
        }
        for capacity in [500, 1_000, 7_000] {
            let difference = all.hit_ratio(capacity).unwrap() - curve.hit_ratio(capacity);
            assert!(difference.abs() < 1e-9, "{difference}");
        }
        assert_eq!((all.hit_ratio(499), tenth.hit_ratio(4_999)), (None, None));
        let sampled = tenth.hit_ratio(7_000).unwrap();
        assert!((sampled - curve.hit_ratio(7_000)).abs() < 0.02, "{sampled}");
    }

    /// Samples of a tenth of the keys of a real trace. `terrace-bench curve --sample 0.1 --exact --seed N` shows more.
    #[test]
    fn sampled_curves_of_a_real_trace_are_within_a_point_of_the_exact_one() {
        let Some(folder) = crate::workload::data_folder() else { return };
        let keys = crate::workload::keys_of(&folder.join("OLTP.lis.zst"));
        let mut curve = Curve::default();
        keys.iter().for_each(|key| curve.read(*key));
        for seed in 0..3 {
            let mut shards = Shards::new(0.1, seed);
            keys.iter().for_each(|key| shards.read(*key));
            for capacity in [5_000, 7_500, 10_000, 20_000, 50_000, 100_000, 186_880] {
                let difference = shards.hit_ratio(capacity).unwrap() - curve.hit_ratio(capacity);
                assert!(difference.abs() < 0.01, "{difference} at {capacity}, seed {seed}");
            }
            assert_eq!(shards.hit_ratio(4_999), None);
        }
    }
}
