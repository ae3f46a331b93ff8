//! Latencies: histograms, and the percentiles that a report shows.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies from a nanosecond to a minute, to three digits. Longer ones count as a minute.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Option<Box<Histogram<u64>>>);

const LONGEST: Duration = Duration::from_secs(60);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).ok().map(Box::new))
    }
}

impl Latencies {
    /// Notes a latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(latency.as_nanos().min(u128::from(u64::MAX)).max(1) as u64);
        }
    }

    /// Adds the latencies of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Both have the same bounds, so nothing can fail.
            let _ = histogram.add(other.as_ref());
        }
    }

    /// The percentiles.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let Some(histogram) = self.0.as_ref().filter(|histogram| !histogram.is_empty()) else {
            return Percentiles::default();
        };
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile: f64| micros(histogram.value_at_quantile(quantile));
        Percentiles {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: micros(histogram.max()),
        }
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// How many latencies were measured.
    pub(crate) count: u64,
    /// The mean.
    pub(crate) mean: f64,
    /// The median.
    pub(crate) p50: f64,
    /// The latency that 90 % do not exceed, and so on.
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) p9999: f64,
    /// The longest.
    pub(crate) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds_and_sums_keep_all() {
        let (mut first, mut second) = (Latencies::default(), Latencies::default());
        (1..=999).for_each(|micros| first.record(Duration::from_micros(micros)));
        second.record(Duration::from_secs(3_600));
        first.add(&second);
        let found = first.percentiles();
        assert_eq!(found.count, 1_000);
        assert!((found.p50 - 500.0).abs() < 1.0 && (found.p99 - 990.0).abs() < 1.0, "{found:?}");
        assert!((found.max - 60e6).abs() < 1e5, "{found:?}");
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }
}
