//! A row of the table: its figures, and whether they meet the target.

use serde::Serialize;

/// The figures of one round, in the unit of the row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// Through the cache.
    pub ours: f64,
    /// The raw engine or client.
    pub raw: f64,
    /// The raw engine or client again.
    pub control: f64,
}

/// The unit of a row's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Nanoseconds per operation.
    #[serde(rename = "ns")]
    Nanos,
    /// Microseconds per operation.
    #[serde(rename = "us")]
    Micros,
    /// Thousands of operations per second.
    #[serde(rename = "k/s")]
    Thousands,
    /// A share of a hundred.
    #[serde(rename = "%")]
    Percent,
}

impl Unit {
    /// The name of the unit in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Micros => "us",
            Self::Thousands => "k/s",
            Self::Percent => "%",
        }
    }
}

/// The target for the ratio of ours to raw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// For times: the ratio is at most this.
    AtMost(f64),
    /// For throughputs: the ratio is at least this.
    AtLeast(f64),
}

/// The quartiles of the rounds' ratios.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// A quarter of the ratios is lower.
    pub lower: f64,
    /// Half of the ratios are lower.
    pub median: f64,
    /// Three quarters of the ratios are lower.
    pub upper: f64,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The group: `near`, `redis`, `postgres`, `load`, `outbox`.
    pub group: &'static str,
    /// What was measured.
    pub name: String,
    /// The unit of `ours` and `raw`.
    pub unit: Unit,
    /// The median of ours.
    pub ours: f64,
    /// The median of raw.
    pub raw: f64,
    /// The ratio of ours to raw.
    pub ratio: Spread,
    /// The ratio of the control to raw: the noise.
    pub control: Spread,
    /// The target for the ratio, if there is one.
    pub target: Option<Target>,
    /// Whether the ratio meets the target.
    pub met: Option<bool>,
}

impl Row {
    /// A row from its rounds; there must be at least one round.
    #[must_use]
    pub fn new(
        group: &'static str,
        name: impl Into<String>,
        unit: Unit,
        rounds: &[Round],
        target: Option<Target>,
    ) -> Self {
        let ratio = Spread::of(rounds.iter().map(|round| round.ours / round.raw));
        Self {
            group,
            name: name.into(),
            unit,
            ours: Spread::of(rounds.iter().map(|round| round.ours)).median,
            raw: Spread::of(rounds.iter().map(|round| round.raw)).median,
            ratio,
            control: Spread::of(rounds.iter().map(|round| round.control / round.raw)),
            target,
            met: target.map(|target| target.is_met_by(ratio.median)),
        }
    }
}

impl Target {
    fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(most) => ratio <= most,
            Self::AtLeast(least) => ratio >= least,
        }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get((values.len().saturating_sub(1)) * quarter / 4);
        let at = |quarter| at(quarter).copied().unwrap_or(f64::NAN);
        Self { lower: at(1), median: at(2), upper: at(3) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_of_the_ratios_and_not_the_ratio_of_the_medians() {
        let round = |ours, raw| Round { ours, raw, control: raw };
        let rounds = [round(10.0, 10.0), round(30.0, 20.0), round(200.0, 100.0)];
        let row = Row::new("near", "x", Unit::Nanos, &rounds, Some(Target::AtMost(1.4)));
        assert_eq!((row.ours, row.raw), (30.0, 20.0));
        assert_eq!(row.ratio.median, 1.5);
        assert_eq!(row.control.median, 1.0);
        assert_eq!(row.met, Some(false));
    }

    #[test]
    fn quartiles_are_those_of_the_sorted_values() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0].into_iter());
        assert_eq!(spread, Spread { lower: 2.0, median: 3.0, upper: 4.0 });
    }
}
