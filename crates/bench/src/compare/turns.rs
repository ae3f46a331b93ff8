//! `terrace-bench turns`: two builds of this program measure the same in turns, and are compared.
//!
//! Two reports that were measured one after another differ by what the machine did meanwhile. In turns, both
//! have the same machine.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use super::command::{Certainty, judge};
use crate::{
    failure::{Failure, Result, refuse},
    report::{Report, read},
};

/// Runs two builds of terrace-bench in turns and compares them; exit code 1 if the second is slower
#[derive(Debug, clap::Args)]
pub(crate) struct TurnsCommand {
    /// The first build
    before: PathBuf,
    /// The second build
    after: PathBuf,
    /// How many rounds each build runs
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    #[command(flatten)]
    certainty: Certainty,
    /// The options of `terrace-bench run`, behind `--`
    #[arg(last = true, required = true, value_name = "OPTIONS OF RUN")]
    options: Vec<String>,
}

impl TurnsCommand {
    /// Measures and compares.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        if self.rounds < super::verdict::LEAST_ROUNDS {
            refuse!("a verdict needs {} rounds", super::verdict::LEAST_ROUNDS);
        }
        let folder = tempfile::tempdir().map_err(Failure::new)?;
        let file = folder.path().join("report.json");
        let mut reports: [Option<Report>; 2] = [None, None];
        for round in 0..self.rounds {
            // One time the first build begins, one time the second.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for build in order {
                let program = [&self.before, &self.after][build];
                let report = self.measure(program, &file)?;
                merge(&mut reports[build], report);
            }
        }
        match reports {
            [Some(before), Some(after)] => judge(&before, &after, self.certainty),
            _ => Err(Failure::new("no round was measured")),
        }
    }

    fn measure(&self, program: &Path, file: &Path) -> Result<Report> {
        let mut run = Command::new(program);
        run.arg("run").args(&self.options).args(["--quiet", "--no-analysis", "--json"]).arg(file);
        let output = run.stdin(Stdio::null()).output();
        let fault = |why: &dyn std::fmt::Display| Failure::new(format_args!("{}: {why}", program.display()));
        let output = output.map_err(|error| fault(&error))?;
        if !output.status.success() {
            return Err(fault(&String::from_utf8_lossy(&output.stderr)));
        }
        read(file)
    }
}

/// Adds the rounds of a report to those before it.
fn merge(all: &mut Option<Report>, report: Report) {
    match all {
        None => *all = Some(report),
        Some(all) => {
            for (row, more) in all.rows.iter_mut().zip(report.rows) {
                row.rounds.extend(more.rounds);
            }
        }
    }
}
