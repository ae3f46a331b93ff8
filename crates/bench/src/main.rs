//! `terrace-bench` replays any workload over any stack of cache tiers, and says which stack and which capacity
//! to run.
//!
//! Start reading in `cli.rs`, which lists the commands. `workload/` makes requests, `analysis/` computes what
//! they say without a cache, `run/` sends them to caches, `report/` shows what was found, `compare/` judges two
//! reports.

mod analysis;
mod cli;
mod compare;
mod failure;
mod generate;
mod own_cost;
mod report;
mod run;
mod workload;

use std::{alloc::System, process::ExitCode};

use clap::Parser;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts allocations, for the reports.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("terrace-bench: {failure}");
            ExitCode::from(2)
        }
    }
}
