//! `cargo xtask bench-report`: the bench table, optimized.

use crate::run::{Result, cargo, run as run_command};

/// Runs the bench program with these arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    run_command(cargo(["run", "--release", "-p", "terrace-bench-harness", "--"]).args(arguments))
}
