//! `cargo xtask model`: the model check of the single flight, over shuttle's schedules.

use std::process::Command;

use crate::flagged::flagged;
use crate::run::{Result, run as run_command};

/// Runs the model check alone.
pub(crate) fn run() -> Result<()> {
    run_command(&mut command())
}

/// The model check, to be run.
pub(crate) fn command() -> Command {
    flagged("shuttle", "shuttle", ["test", "-p", "terrace-core", "--lib", "flight::model"])
}
