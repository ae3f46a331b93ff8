//! Installs server programs without starting the services that come with them.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use crate::run::{Result, run};

/// A server that tests start, and the packages that bring it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) program: &'static str,
    pub(crate) debian: &'static str,
    pub(crate) homebrew: &'static str,
}

/// Debian's hook that runs before a package starts its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Debian and Ubuntu, as root.
pub(crate) fn by_apt(packages: &[&str]) -> Result<()> {
    let _policy = NoServices::new();
    // One stale package source among many is no reason to stop: the install fails if it matters.
    if let Err(error) = run(apt().arg("update")) {
        eprintln!("xtask: {error}");
    }
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// macOS; Homebrew starts no service by itself.
pub(crate) fn by_homebrew(missing: &[Package]) -> Result<()> {
    run(Command::new("brew").arg("install").args(missing.iter().map(|p| p.homebrew)))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}

/// While this lives, packages start no services. A policy that the machine already has is left as it
/// is.
struct NoServices {
    written: bool,
}

impl NoServices {
    fn new() -> Self {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        // The exit code 101 forbids the action.
        let written = file.and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n")).is_ok();
        Self { written }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.written {
            let _gone = std::fs::remove_file(POLICY);
        }
    }
}
