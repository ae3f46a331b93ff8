//! A row of times that are measured by themselves, beside no raw client.

use serde::Serialize;

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// One row, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Of what: `delivery`, `outbox`.
    pub group: &'static str,
    /// What was measured.
    pub name: String,
    /// How many times.
    pub count: usize,
    /// Half of them are below.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1,000.
    pub p999_ms: f64,
    /// The longest.
    pub most_ms: f64,
    /// What they should be.
    pub target: Bound,
    /// Whether they are.
    pub met: bool,
}

/// What the times should be at most, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// 99 of 100.
    P99(f64),
    /// All.
    Most(f64),
}

impl Latency {
    /// A row from its times, of which there is at least one.
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
