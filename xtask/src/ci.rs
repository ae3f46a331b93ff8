//! `cargo xtask ci`: all checks that are not tests.

use std::process::Command;

use crate::run::{Result, cargo, run as run_command, succeeds};
use crate::{check_features, flagged, retired};

/// Runs every check, also after one that failed, and names those that did.
pub(crate) fn run() -> Result<()> {
    let mut checks: Vec<(&str, Result<()>)> = vec![
        ("formatting", run_command(&mut cargo(["fmt", "--all", "--check"]))),
        ("retired identifiers", retired::run()),
        ("clippy", run_command(&mut clippy())),
        ("clippy of the simulation", run_command(&mut clippy_of_simulation())),
        ("docs", run_command(&mut docs())),
        ("features", check_features::run()),
    ];
    let deny = succeeds(&mut cargo(["deny", "--version"]));
    if deny {
        let mut command = cargo(["deny", "--all-features", "check", "bans", "licenses", "sources"]);
        checks.push(("cargo-deny", run_command(&mut command)));
    }

    let mut failed = Vec::new();
    for (name, outcome) in &checks {
        if let Err(error) = outcome {
            eprintln!("xtask: {name}: {error}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        return Err(format!("failed: {}", failed.join(", ")));
    }
    let names: Vec<&str> = checks.iter().map(|(name, _)| *name).collect();
    println!("ci: ok: {}", names.join(", "));
    if !deny {
        println!("ci: left out: bans, licences and sources, because cargo-deny is not installed");
    }
    Ok(())
}

fn clippy() -> Command {
    cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
}

/// The code of a build in which defences can be left out. The packages that these depend on are checked
/// too.
fn clippy_of_simulation() -> Command {
    let packages = ["-p", "terrace-simulation", "-p", "terrace-verify"];
    let arguments = ["--all-targets", "--", "-D", "warnings"];
    flagged::simulation(["clippy"].into_iter().chain(packages).chain(arguments))
}

fn docs() -> Command {
    let mut command = cargo(["doc", "--workspace", "--all-features", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}
