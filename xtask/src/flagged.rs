//! Builds under a flag of the compiler.

use std::path::PathBuf;
use std::process::Command;

use crate::run::{cargo, root};

/// Builds in which a simulation can leave a defence of the cache out.
const SIMULATION: &str = "terrace_simulation";

/// The tests that leave defences out.
pub(crate) fn switches() -> Command {
    simulation(["test", "-p", "terrace-simulation", "--test", "switches"])
}

/// The tests that leave the defences of the journal out.
pub(crate) fn journal_switches() -> Command {
    simulation(["test", "-p", "terrace-journal", "--lib", "defences"])
}

/// A cargo command of a build in which defences can be left out.
pub(crate) fn simulation<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    flagged(SIMULATION, "simulation", arguments)
}

/// A cargo command of a build with `--cfg flag`. The flag changes the build of every crate, so that
/// the build has a target folder of its own: one folder for both would be rebuilt at each change.
pub(crate) fn flagged<'a>(flag: &str, folder: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = cargo(arguments);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg {flag}").trim_start());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    command.env("CARGO_TARGET_DIR", target.join(folder));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_set_for_a_build_in_a_target_folder_of_its_own() {
        let command = switches();
        let value = |name: &str| {
            let found = command.get_envs().find(|(variable, _)| *variable == name);
            found.and_then(|(_, value)| value).map(|value| value.to_string_lossy().into_owned())
        };
        assert!(value("RUSTFLAGS").unwrap().ends_with("--cfg terrace_simulation"));
        assert!(value("CARGO_TARGET_DIR").unwrap().ends_with("simulation"));
    }
}
