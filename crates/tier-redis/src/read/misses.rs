//! How often the reads miss that bring a loader: where misses are frequent, a read asks for the lease at once.

use std::sync::atomic::{AtomicU32, Ordering};

/// The share of misses above which the script that gives the value or a lease costs less than a GET and, after a
/// miss, the script. In a trial with the raw client both cost the same at about 10 % of misses with one caller at a
/// time, and at about 18 % with 32 callers.
const FREQUENT: u32 = ONE / 100 * 15;
/// One, in fixed point.
const ONE: u32 = 1 << 20;
/// Each read changes the share by this part of the difference: the last 32 reads or so count.
const WEIGHT: u32 = 32;

/// The share of misses among the last reads. Concurrent reads may overwrite each other's changes.
#[derive(Debug, Default)]
pub(crate) struct MissRatio(AtomicU32);

impl MissRatio {
    pub(crate) fn are_frequent(&self) -> bool {
        self.0.load(Ordering::Relaxed) > FREQUENT
    }

    pub(crate) fn record(&self, missed: bool) {
        let before = self.0.load(Ordering::Relaxed);
        let after = match missed {
            true => before + (ONE - before) / WEIGHT,
            false => before - before / WEIGHT,
        };
        // A hit in a cache without misses writes nothing, so that its callers share the line.
        if after != before {
            self.0.store(after, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(reads: impl IntoIterator<Item = bool>) -> bool {
        let ratio = MissRatio::default();
        reads.into_iter().for_each(|missed| ratio.record(missed));
        ratio.are_frequent()
    }

    #[test]
    fn misses_are_frequent_after_some_in_a_row_and_rare_again_after_hits() {
        assert!(!after([]) && !after([true; 5]));
        assert!(after([true; 6]));
        assert!(!after([true; 100].into_iter().chain([false; 64])));
    }

    #[test]
    fn one_miss_in_ten_is_rare_and_one_in_four_is_frequent() {
        let every = |number: usize| (0..1_000).map(move |read| read % number == number - 1);
        assert!(!after(every(10)));
        assert!(after(every(4)));
    }
}
