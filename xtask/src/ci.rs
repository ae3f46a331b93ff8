//! `cargo xtask ci`: all checks that are not tests.

use crate::check_features;
use crate::run::{Result, cargo, run as run_command, succeeds};

/// Runs every check, also after one that failed, and names those that did.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    let mut check = |name: &'static str, outcome: Result<()>| {
        if let Err(error) = outcome {
            eprintln!("xtask: {name}: {error}");
            failed.push(name);
        }
    };
    check("formatting", run_command(&mut cargo(["fmt", "--all", "--check"])));
    check(
        "clippy",
        run_command(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ])),
    );
    check(
        "docs",
        run_command(
            cargo(["doc", "--workspace", "--all-features", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
        ),
    );
    check("features", check_features::run());
    let deny = succeeds(&mut cargo(["deny", "--version"]));
    if deny {
        check(
            "cargo-deny",
            run_command(&mut cargo(["deny", "--all-features", "check", "bans", "licenses", "sources"])),
        );
    }

    if !failed.is_empty() {
        return Err(format!("failed: {}", failed.join(", ")));
    }
    println!("ci: ok: formatting, clippy, docs, features{}", if deny { ", cargo-deny" } else { "" });
    if !deny {
        println!(
            "ci: left out: bans, licences and sources were not checked, for cargo-deny is not installed"
        );
    }
    Ok(())
}
