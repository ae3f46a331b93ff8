//! `cargo xtask verify`: the proof, in a release build.

use crate::run::{Result, cargo, run as run_command};

/// Builds it and runs it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut command = cargo(["run", "--release", "--quiet", "-p", "terrace-verify", "--"]);
    run_command(command.args(arguments))
}
