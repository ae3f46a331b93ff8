//! The table for people, and the report for programs.

use serde::Serialize;

use super::{
    latency::{Bound, Latency},
    row::{Row, Spread, Target},
};

/// All figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the run was short.
    pub quick: bool,
    /// How many processors the run could use.
    pub processors: usize,
    /// The rows that compare with raw clients and engines.
    pub rows: Vec<Row>,
    /// The rows of times without a raw client.
    pub latencies: Vec<Latency>,
}

/// The heading of the table.
#[must_use]
pub fn heading() -> String {
    ruled(&format!(
        "{:<8} {:<58} {:>11} {:>11}     {:>6} {:<13} {:<13} {:>7}  {}",
        "", "", "ours", "raw", "ratio", "(quartiles)", "raw / raw", "target", "met"
    ))
}

/// The heading of the table of times without a raw client.
#[must_use]
pub fn latency_heading() -> String {
    ruled(&format!(
        "{:<8} {:<58} {:>8} {:>9} {:>9} {:>9} {:>9}     {:>13}  {}",
        "", "", "count", "p50", "p99", "p99.9", "most", "target", "met"
    ))
}

fn ruled(names: &str) -> String {
    let rule = "-".repeat(names.chars().count());
    format!("{names}\n{rule}")
}

/// One line of the table of times without a raw client.
#[must_use]
pub fn latency_line(row: &Latency) -> String {
    let target = match row.target {
        Bound::P99(bound) => format!("p99 <= {bound:.0}"),
        Bound::Most(bound) => format!("most <= {bound:.0}"),
    };
    format!(
        "{:<8} {:<58} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1} ms  {:>13}  {}",
        row.group,
        row.name,
        row.count,
        row.p50_ms,
        row.p99_ms,
        row.p999_ms,
        row.most_ms,
        target,
        if row.met { "yes" } else { "NO" }
    )
}

/// One line of the table.
#[must_use]
pub fn line(row: &Row) -> String {
    let figure = |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    let target = match row.target {
        Some(Target::AtMost(most)) => format!("<= {most:.2}"),
        Some(Target::AtLeast(least)) => format!(">= {least:.2}"),
        None => String::new(),
    };
    let met = match row.met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    let quartiles = |spread: &Spread| format!("({:.2}-{:.2})", spread.lower, spread.upper);
    format!(
        "{:<8} {:<58} {:>11} {:>11} {:<3} {:>6.2} {:<13} {:<13} {:>7}  {}",
        row.group,
        row.name,
        figure(row.ours),
        figure(row.raw),
        row.unit.name(),
        row.ratio.median,
        quartiles(&row.ratio),
        quartiles(&row.control),
        target,
        met
    )
}
