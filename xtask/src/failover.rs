//! `cargo xtask failover`: how long failovers of real servers take, optimized.

use crate::{
    run::{Result, cargo, run as run_command},
    servers,
};

/// Finds or installs the servers and runs the program with these arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    servers::provide_here()?;
    let program = ["run", "--release", "-p", "terrace-bench-harness", "--bin", "failover", "--"];
    run_command(cargo(program).args(arguments))
}
