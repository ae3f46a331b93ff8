//! What two reports say about each row that both have.

use std::fmt;

use super::rank::chance_of;
use crate::report::{Report, Round, Row};

/// The least number of rounds: with fewer, no difference could be told from chance.
pub(super) const LEAST_ROUNDS: usize = 7;

/// What is judged of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// The time of the processor for a request. Other programs on the machine hardly change it.
    Cpu,
    /// The time for a request, from the throughput.
    Time,
}

impl Measure {
    /// Near rows need the processor alone. Remote ones wait for servers.
    fn of(row: &Row) -> Self {
        if row.is_remote { Self::Time } else { Self::Cpu }
    }

    fn nanos(self, round: &Round) -> f64 {
        match self {
            Self::Cpu => round.cpu_nanos,
            Self::Time => 1e9 / round.per_second.max(1e-9),
        }
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Slower than before by more than the threshold, and not by chance.
    Slower,
    /// Faster than before by more than the threshold, and not by chance.
    Faster,
    /// Its tiers answer fewer reads than before, by more than a point.
    FewerHits,
    /// No verdict: the difference is small, or may be chance.
    None,
    /// Too few rounds for any verdict.
    TooFewRounds,
}

/// One row of both reports.
#[derive(Clone, Debug)]
pub(super) struct RowChange {
    pub(super) name: String,
    pub(super) change: Change,
    measure: Measure,
    /// The second time divided by the first: the median over the pairs of rounds.
    pub(super) ratio: f64,
    chance: f64,
}

/// Judges all rows. The chance that any row is called slower although it is not stays below `alpha`.
pub(super) fn compare(before: &Report, after: &Report, threshold: f64, alpha: f64) -> Vec<RowChange> {
    let pairs: Vec<(&Row, &Row)> = before
        .rows
        .iter()
        .filter_map(|row| Some((row, after.rows.iter().find(|other| is_same(row, other))?)))
        .collect();
    // A bound of Bonferroni: each row in each direction has its share of the chance.
    let alpha = alpha / (2 * pairs.len().max(1)) as f64;
    pairs.into_iter().map(|(before, after)| judge(before, after, threshold, alpha)).collect()
}

fn is_same(row: &Row, other: &Row) -> bool {
    let is_same_load =
        row.load() == other.load() || (row.load().starts_with("open") && other.load().starts_with("open"));
    row.stack == other.stack && is_same_load
}

fn judge(before: &Row, after: &Row, threshold: f64, alpha: f64) -> RowChange {
    let measure = Measure::of(before);
    let logs: Vec<f64> = before
        .rounds
        .iter()
        .zip(&after.rounds)
        .map(|(before, after)| (measure.nanos(after) / measure.nanos(before).max(1e-9)).ln())
        .collect();
    let ratio = median(&logs).exp();
    // Each side is tested against the threshold itself: a small difference, however certain, is no regression.
    let limit = (1.0 + threshold).ln();
    let slower = chance_of(&logs.iter().map(|log| log - limit).collect::<Vec<_>>());
    let faster = chance_of(&logs.iter().map(|log| -log - limit).collect::<Vec<_>>());
    let hits = |row: &Row| median(&row.rounds.iter().map(|round| round.hit_ratio).collect::<Vec<_>>());
    let change = match () {
        () if hits(before) - hits(after) > 0.01 => Change::FewerHits,
        () if logs.len() < LEAST_ROUNDS => Change::TooFewRounds,
        () if slower < alpha => Change::Slower,
        () if faster < alpha => Change::Faster,
        () => Change::None,
    };
    let name = format!("{}, {}", before.stack, before.load());
    RowChange { name, change, measure, ratio, chance: slower.min(faster) }
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

impl Change {
    /// Whether a run in CI is to fail.
    pub(super) fn is_regression(self) -> bool {
        matches!(self, Self::Slower | Self::FewerHits)
    }
}

impl fmt::Display for RowChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.change {
            Change::Slower => "SLOWER",
            Change::Faster => "faster",
            Change::FewerHits => "FEWER HITS",
            Change::None => "no verdict",
            Change::TooFewRounds => "too few rounds",
        };
        let measure = match self.measure {
            Measure::Cpu => "processor time",
            Measure::Time => "time",
        };
        let (percent, chance) = ((self.ratio - 1.0) * 100.0, self.chance);
        write!(f, "{what}: {}: {measure} a request {percent:+.1} % (chance {chance:.1e})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Arrival;

    fn report(rounds: impl Iterator<Item = f64>) -> Report {
        let rounds = rounds.map(|nanos| Round { cpu_nanos: nanos, hit_ratio: 0.5, ..Round::default() });
        let row = serde_json::json!({
            "stack": "memory", "is_remote": false, "near_entries": 1, "arrival": Arrival::Closed(1),
            "rounds": rounds.collect::<Vec<_>>(), "requests": 1, "reads": 1, "loaded": 0, "loads": 0, "errors": {},
            "latency_every": 1, "latency": crate::run::Percentiles::default(), "by_source": {}, "lateness": null,
            "tiers": [], "allocations": 0.0, "slices": [], "cost": null
        });
        Report { rows: vec![serde_json::from_value(row).unwrap()], ..Report::default() }
    }

    fn changes(factor: f64, noise: f64, rounds: usize, seeds: u64) -> Vec<Change> {
        let change = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut of = |factor: f64| {
                let draws: Vec<f64> =
                    (0..rounds).map(|_| 50.0 * factor * (1.0 + noise * random.f64())).collect();
                report(draws.into_iter())
            };
            let (before, after) = (of(1.0), of(factor));
            compare(&before, &after, 0.05, 0.01)[0].change
        };
        (0..seeds).map(change).collect()
    }

    #[test]
    fn the_same_numbers_give_no_verdict_and_a_quarter_more_is_found() {
        assert!(changes(1.0, 0.4, 15, 500).iter().all(|change| *change == Change::None));
        let slower = changes(1.25, 0.2, 15, 500);
        assert!(slower.iter().filter(|change| **change == Change::Slower).count() >= 490);
        assert!(changes(0.7, 0.2, 15, 50).iter().all(|change| *change == Change::Faster));
        assert_eq!(changes(2.0, 0.1, 6, 1), [Change::TooFewRounds]);
    }

    #[test]
    fn fewer_hits_are_a_regression_and_other_rows_are_not_compared() {
        let before = report([50.0; 8].into_iter());
        let mut after = before.clone();
        after.rows[0].rounds.iter_mut().for_each(|round| round.hit_ratio = 0.48);
        assert!(compare(&before, &after, 0.05, 0.01)[0].change.is_regression());
        after.rows[0].stack = "other".to_owned();
        assert!(compare(&before, &after, 0.05, 0.01).is_empty());
    }
}
