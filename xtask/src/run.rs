//! Runs other programs, and prints their command lines.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The error is a text for the person at the terminal.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The cargo that runs this command, in the workspace's root.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(cargo_program());
    command.args(arguments).current_dir(root());
    without_own_package(&mut command);
    command
}

/// Removes the variables by which cargo tells this program about its package. The build scripts of some
/// crates (ring) depend on them, so that each change between a plain `cargo test` and `cargo xtask` would
/// build these crates anew, with all that depends on them.
pub(crate) fn without_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if is_of_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
}

fn is_of_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
        .iter()
        .any(|start| variable.starts_with(start))
}

pub(crate) fn cargo_program() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Runs a command to its end; a status other than success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().map_err(|error| format!("{} could not be run: {error}", name(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", words(command))) }
}

/// Runs a command without its output; returns whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// Prints a command line as one would type it.
pub(crate) fn announce(command: &Command) {
    eprintln!("$ {}", words(command));
}

pub(crate) fn name(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn words(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(variable, value)| {
        Some(format!("{}='{}'", variable.to_string_lossy(), value?.to_string_lossy()))
    });
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    variables.chain([name(command)]).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_hears_nothing_of_the_package_of_this_program() {
        // Tests run in cargo as this program does, so that these variables are set.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let command = cargo(["test"]);
        let removed = |name: &str| command.get_envs().any(|(key, value)| key == name && value.is_none());
        assert!(removed("CARGO_PKG_NAME") && removed("CARGO_MANIFEST_DIR"));
        assert!(!removed("CARGO_HOME") && !removed("PATH"));
    }
}
