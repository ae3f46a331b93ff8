//! `cargo xtask verify`: simulations, switches and runs on real servers, in a release build.

use crate::{
    flagged,
    run::{Result, run as run_command},
    servers,
};

/// Finds or installs the servers, builds the program and runs it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    servers::provide_here()?;
    let mut command = flagged::simulation(["run", "--release", "--quiet", "-p", "terrace-verify", "--"]);
    run_command(command.args(arguments))
}
