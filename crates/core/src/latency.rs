//! How long calls of tiers and loads take, counted in a few ranges of time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds of the ranges in which [`Latencies`] counts. What takes longer than the last bound is in one
/// more range.
pub const LATENCY_BOUNDS: [Duration; 10] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

const RANGES: usize = LATENCY_BOUNDS.len() + 1;

/// The times of many calls: a count for each range of time, and the sum.
///
/// ```
/// # use terrace_core::{LATENCY_BOUNDS, Latencies};
/// let times = Latencies::default();
/// assert_eq!(times.counts.len(), LATENCY_BOUNDS.len() + 1);
/// assert_eq!(times.count(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// How many calls took at most the bound of this index in [`LATENCY_BOUNDS`], and longer than the bound
    /// before it. The last count is of calls that took longer than every bound.
    pub counts: [u64; RANGES],
    /// The time of all calls together.
    pub sum: Duration,
}

impl Latencies {
    /// The number of calls.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean time of a call, or `None` before the first call.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.sum.as_nanos().checked_div(u128::from(self.count()))?;
        Some(Duration::from_nanos(mean as u64))
    }
}

/// Counts the times of calls as they end.
#[derive(Debug, Default)]
pub(crate) struct LatencyCounter {
    counts: [AtomicU64; RANGES],
    sum_nanos: AtomicU64,
}

impl LatencyCounter {
    pub(crate) fn add(&self, elapsed: Duration) {
        let range = LATENCY_BOUNDS.iter().position(|bound| elapsed <= *bound).unwrap_or(RANGES - 1);
        self.counts[range].fetch_add(1, Ordering::Relaxed);
        // The sum wraps after 584 years of calls.
        self.sum_nanos.fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Latencies {
        Latencies {
            counts: std::array::from_fn(|range| self.counts[range].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_range_whose_bound_it_does_not_exceed() {
        let counter = LatencyCounter::default();
        for bound in LATENCY_BOUNDS {
            counter.add(bound);
            counter.add(bound + Duration::from_nanos(1));
        }
        let times = counter.read();
        assert_eq!(times.counts, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
        assert_eq!(times.count(), 20);
        let expected = LATENCY_BOUNDS.iter().sum::<Duration>() * 2 + Duration::from_nanos(10);
        assert_eq!((times.sum, times.mean()), (expected, Some(expected / 20)));
    }

    #[test]
    fn the_bounds_grow() {
        assert!(LATENCY_BOUNDS.is_sorted_by(|a, b| a < b));
        assert_eq!(Latencies::default().mean(), None);
    }
}
