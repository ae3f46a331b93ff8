//! `terrace-bench compare`: judges two reports.

use std::{path::PathBuf, process::ExitCode};

use super::verdict::{Change, LEAST_ROUNDS, compare};
use crate::{
    failure::{Result, refuse},
    report::{Report, read},
};

/// How large and how certain a difference must be.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Certainty {
    /// The smallest difference that counts, in percent
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    pub(super) threshold: f64,
    /// The chance of any false verdict over all rows
    #[arg(long, default_value_t = 0.01, value_name = "CHANCE")]
    pub(super) alpha: f64,
}

/// Says which rows of a second report are slower than those of a first one; exit code 1 if any is
#[derive(Debug, clap::Args)]
pub(crate) struct CompareCommand {
    /// The JSON of the first report
    before: PathBuf,
    /// The JSON of the second report
    after: PathBuf,
    #[command(flatten)]
    certainty: Certainty,
}

impl CompareCommand {
    /// Prints a line for each row.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        judge(&read(&self.before)?, &read(&self.after)?, self.certainty)
    }
}

/// Prints the verdict on each row. The exit code is 1 for a regression.
pub(super) fn judge(before: &Report, after: &Report, certainty: Certainty) -> Result<ExitCode> {
    if before.workload != after.workload {
        refuse!("the reports are of two workloads, {} and {}", before.workload, after.workload);
    }
    let changes = compare(before, after, certainty.threshold / 100.0, certainty.alpha);
    if changes.is_empty() {
        refuse!("the two reports have no row in common");
    }
    changes.iter().for_each(|change| println!("{change}"));
    if changes.iter().all(|change| change.change == Change::TooFewRounds) {
        refuse!("a verdict needs {LEAST_ROUNDS} rounds: run with --rounds {LEAST_ROUNDS} or more");
    }
    let is_regression = changes.iter().any(|change| change.change.is_regression());
    Ok(if is_regression { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
