//! The commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    analysis::CurveCommand,
    compare::{CompareCommand, TurnsCommand},
    failure::Result,
    generate::GenerateCommand,
    own_cost::OwnCostCommand,
    report::{self, table},
    run::RunCommand,
    workload::{Summary, Workload},
};

/// Replays any workload over any stack of cache tiers, and says which stack and which capacity to run.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<RunCommand>),
    Curve(Box<CurveCommand>),
    /// Counts the requests, keys and bytes of a workload
    Inspect {
        #[command(flatten)]
        workload: Box<Workload>,
    },
    Generate(Box<GenerateCommand>),
    Compare(CompareCommand),
    Turns(Box<TurnsCommand>),
    OwnCost(OwnCostCommand),
    Report(report::ReportCommand),
}

impl Cli {
    /// Runs the command. The exit code is 0 for success, 1 for a regression, 2 for a failure, 130 for an
    /// interrupted run.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Run(run) => return run.run(),
            Command::Compare(compare) => return compare.run(),
            Command::Turns(turns) => return turns.run(),
            Command::Curve(curve) => curve.run()?,
            Command::Generate(generate) => generate.run()?,
            Command::OwnCost(own_cost) => own_cost.run()?,
            Command::Report(report) => report.run()?,
            Command::Inspect { workload } => {
                let summary = Summary::of(workload.open()?)?;
                let number = table::thousands;
                println!(
                    "{}: {} requests of {} distinct keys; {} reads, {} writes, {} removals; the values of all \
                     keys have {} bytes",
                    workload.name(),
                    number(summary.requests),
                    number(summary.keys),
                    number(summary.reads),
                    number(summary.writes),
                    number(summary.drops),
                    number(summary.bytes)
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
