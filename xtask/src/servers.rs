//! Provides the server programs that the tests start.

use std::process::Command;

use terrace_server_programs::find;

use crate::install::{self, Package};
use crate::run::{Result, root, succeeds};

/// Where the tests can run.
pub(crate) enum Plan {
    /// Here: the server programs are installed.
    Here,
    /// By this command, in a container that installs them.
    InContainer(Command),
}

const PACKAGES: [Package; 3] = [
    Package { program: "redis-server", debian: "redis-server", homebrew: "redis" },
    // initdb comes with the server; a client's package has neither.
    Package { program: "initdb", debian: "postgresql", homebrew: "postgresql@16" },
    // It comes with promtool, which checks metrics and alerts.
    Package { program: "prometheus", debian: "prometheus", homebrew: "prometheus" },
];

/// Finds the server programs, or installs them: by apt-get as root, by Homebrew, or in a container. The
/// error says what to install.
pub(crate) fn provide() -> Result<Plan> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(Plan::Here);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.program).collect();
    eprintln!("not installed: {}", names.join(", "));
    if let Err(error) = install(&missing) {
        eprintln!("xtask: {error}");
    }
    let missing = self::missing();
    if missing.is_empty() {
        Ok(Plan::Here)
    } else if docker_runs() {
        Ok(Plan::InContainer(in_container()))
    } else {
        Err(advice(&missing))
    }
}

/// Provides the server programs on this machine, where a container is of no use.
pub(crate) fn provide_here() -> Result<()> {
    match provide()? {
        Plan::Here => Ok(()),
        Plan::InContainer(_) => Err(advice(&missing())),
    }
}

/// Installs by the machine's own installer, where this process may use it.
fn install(missing: &[Package]) -> Result<()> {
    if can_install_by_apt() {
        install::by_apt(&missing.iter().map(|package| package.debian).collect::<Vec<_>>())
    } else if cfg!(target_os = "macos") && find("brew").is_some() {
        install::by_homebrew(missing)
    } else {
        Ok(())
    }
}

/// Whether the docker daemon answers and compose is installed: the client alone is not enough.
fn docker_runs() -> bool {
    succeeds(Command::new("docker").arg("ps"))
        && succeeds(Command::new("docker").args(["compose", "version"]))
}

fn missing() -> Vec<Package> {
    PACKAGES.into_iter().filter(|package| find(package.program).is_none()).collect()
}

/// Tests that kill and stop servers need the programs on the same machine, so that the tests run in the
/// container of the servers.
fn in_container() -> Command {
    let mut command = Command::new("docker");
    command.args(["compose", "-f"]).arg(root().join("deploy/compose.yaml"));
    command.args(["run", "--rm", "tests", "cargo", "xtask", "test"]);
    command
}

fn advice(missing: &[Package]) -> String {
    let debian: Vec<&str> = missing.iter().map(|package| package.debian).collect();
    let homebrew: Vec<&str> = missing.iter().map(|package| package.homebrew).collect();
    format!(
        "the tests need servers that are not installed here. Install them:\n  \
         Debian, Ubuntu:  sudo apt-get install {}\n  \
         macOS:           brew install {}\n  \
         anywhere:        start docker, and the tests run in a container (deploy/compose.yaml)\n\
         or put `redis-server`, `postgres` and `initdb` on PATH",
        debian.join(" "),
        homebrew.join(" "),
    )
}

/// Whether this process may install Debian packages.
pub(crate) fn can_install_by_apt() -> bool {
    is_root() && find("apt-get").is_some()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_what_is_missing_and_nothing_else() {
        let [redis, postgres, _] = PACKAGES;
        let text = advice(&[redis]);
        assert!(text.contains("apt-get install redis-server\n"), "{text}");
        let text = advice(&[postgres]);
        assert!(text.contains("brew install postgresql@16\n"), "{text}");
    }
}
