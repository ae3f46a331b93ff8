//! `cargo xtask model`: the model check of the single flight, over shuttle's schedules.

use std::path::PathBuf;
use std::process::Command;

use crate::run::{Result, cargo, root, run as run_command};

/// Runs the model check alone.
pub(crate) fn run() -> Result<()> {
    run_command(&mut command())
}

/// The flag changes every crate's build, so that it gets a target folder of its
/// own: the usual one would be rebuilt with each change to and fro.
pub(crate) fn command() -> Command {
    let mut command = cargo(["test", "-p", "terrace-core", "--lib", "flight::model"]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg shuttle").trim_start());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    command.env("CARGO_TARGET_DIR", target.join("shuttle"));
    command
}
