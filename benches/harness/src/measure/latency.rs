//! A row of times without a raw client to compare with.

use serde::Serialize;

/// A time in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// One row of times, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The group: `delivery`, `outbox`.
    pub group: &'static str,
    /// What was measured.
    pub name: String,
    /// How many times were measured.
    pub count: usize,
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The 99.9th percentile.
    pub p999_ms: f64,
    /// The longest time.
    pub most_ms: f64,
    /// The target.
    pub target: Bound,
    /// Whether the times meet the target.
    pub met: bool,
}

/// An upper bound of the times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The 99th percentile is at most this.
    P99(f64),
    /// Every time is at most this.
    Most(f64),
}

impl Latency {
    /// A row from its times; there must be at least one time.
    #[must_use]
    pub fn new(group: &'static str, name: impl Into<String>, mut times: Vec<Micros>, target: Bound) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let time = times.get(times.len().saturating_sub(1) * share / 1_000);
            time.map_or(f64::NAN, |time| time.0 as f64 / 1_000.0)
        };
        let (p99_ms, most_ms) = (at(990), at(1_000));
        Self {
            group,
            name: name.into(),
            count: times.len(),
            p50_ms: at(500),
            p99_ms,
            p999_ms: at(999),
            most_ms,
            target,
            met: match target {
                Bound::P99(bound) => p99_ms <= bound,
                Bound::Most(bound) => most_ms <= bound,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_those_of_the_sorted_times() {
        let times = (0..=1_000).rev().map(|micros| Micros(micros * 1_000)).collect();
        let row = Latency::new("delivery", "x", times, Bound::P99(990.0));
        assert_eq!((row.p50_ms, row.p99_ms, row.p999_ms, row.most_ms), (500.0, 990.0, 999.0, 1_000.0));
        assert!(row.met);
        assert!(!Latency::new("outbox", "x", vec![Micros(2_000)], Bound::Most(1.0)).met);
    }
}
