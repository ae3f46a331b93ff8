//! What the figures depend on: the versions of the peers, the machine and the servers.

use std::{fs, process::Command};

const LOCK: &str = include_str!("../../Cargo.lock");

/// The version of a package in the lock file: the newest where there are several.
#[must_use]
pub fn version(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"");
    let versions = LOCK.split("[[package]]").filter(|entry| entry.lines().any(|line| line == name));
    let field = |entry: &'static str| entry.lines().find_map(|line| line.strip_prefix("version = \""));
    versions.last().and_then(field).map(|version| version.trim_end_matches('"'))
}

/// The processor and its number, as the system names them.
#[must_use]
pub fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name);
    format!("{processors} processors ({model}), {}", std::env::consts::OS)
}

/// The commit of the source, with a mark if files have changed since.
#[must_use]
pub fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let git = Command::new("git").args(["-C", folder, "describe", "--always", "--dirty"]).output();
    git.map_or_else(
        |_| "an unknown commit".into(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert!(version("moka").is_some_and(|version| version.starts_with("0.12.")));
        assert_eq!(version("no such package"), None);
    }
}
