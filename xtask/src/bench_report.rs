//! `cargo xtask bench-report`: the bench table, optimized.

use crate::run::{Result, cargo, run as run_command};

/// Hands its arguments to the bench program.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    run_command(cargo(["run", "--release", "-p", "terrace-bench", "--"]).args(arguments))
}
