//! `cargo xtask verify`: the proof, in a release build.

use crate::{
    run::{Result, cargo, run as run_command},
    servers,
};

/// Finds or installs the servers, builds it and runs it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    servers::provide_here()?;
    let mut command = cargo(["run", "--release", "--quiet", "-p", "terrace-verify", "--"]);
    run_command(command.args(arguments))
}
