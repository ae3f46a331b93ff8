//! Finds the programs of servers that are installed on this machine.
//!
//! The crate uses std alone: the project's own commands look for a database with it, and must not build a database
//! client for that.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The variable that names folders with the programs of servers, as PATH does: `cargo xtask matrix` chooses
/// an engine by it.
pub const FOLDERS_VARIABLE: &str = "TERRACE_TEST_PROGRAMS";

/// The path of a program; `None` where it is not installed. The folders of [`FOLDERS_VARIABLE`] come first, then those
/// of PATH, then the folders where the packages of Debian, Red Hat and Homebrew put servers, newest version first.
///
/// # Cost
/// A few file system calls for each folder.
///
/// ```
/// assert!(terrace_server_programs::find("sh").is_some());
/// assert!(terrace_server_programs::find("no-such-server").is_none());
/// ```
pub fn find(program: &str) -> Option<PathBuf> {
    let folders = [FOLDERS_VARIABLE, "PATH"].map(|name| std::env::var_os(name).unwrap_or_default());
    find_in(&folders, program)
}

fn find_in(folders: &[OsString], program: &str) -> Option<PathBuf> {
    folders
        .iter()
        .flat_map(std::env::split_paths)
        .chain(usual_folders())
        .map(|folder| folder.join(program))
        .find(|candidate| is_program(candidate))
}

/// Folders that are often not on PATH; of several versions the newest comes first.
fn usual_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/bin"]
            .map(PathBuf::from)
            .into();
    // Debian and Red Hat keep Postgres in a folder for each version; Homebrew keeps it out of PATH.
    folders.extend(versions("/usr/lib/postgresql", ""));
    folders.extend(versions("/usr", "pgsql-"));
    for prefix in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        folders.extend(versions(prefix, "postgresql"));
        folders.extend(versions(prefix, "redis"));
    }
    folders
}

/// `folder/<name that starts with prefix>/bin` for each such name, last name first.
fn versions(folder: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join("bin"))
        .collect();
    found.sort();
    found.reverse();
    found
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_comes_first_and_other_names_are_left_out() {
        let folder = Scratch::new("versions");
        for name in ["postgresql@14", "postgresql@16", "redis"] {
            std::fs::create_dir(folder.0.join(name)).unwrap();
        }
        let found = versions(folder.0.to_str().unwrap(), "postgresql");
        let expected = ["postgresql@16/bin", "postgresql@14/bin"].map(|name| folder.0.join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_folders_that_come_first_win() {
        let folder = Scratch::new("first");
        let paths = ["one", "two"].map(|name| folder.0.join(name));
        for path in &paths {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("redis-server"), "").unwrap();
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path.join("redis-server"), executable).unwrap();
        }
        let [one, two] = paths;
        let first = |folders: &[OsString]| find_in(folders, "redis-server").unwrap();
        assert_eq!(first(&[two.clone().into(), one.clone().into()]), two.join("redis-server"));
        assert_eq!(first(&["".into(), one.clone().into()]), one.join("redis-server"));
        let list = std::env::join_paths([&one, &two]).unwrap();
        assert_eq!(first(&[list, two.into()]), one.join("redis-server"));
    }

    #[test]
    fn a_file_without_the_execute_bit_is_no_program() {
        let folder = Scratch::new("execute-bit");
        let file = folder.0.join("redis-server");
        std::fs::write(&file, "").unwrap();
        assert!(!is_program(&file));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_program(&file));
        assert!(!is_program(&folder.0));
    }

    /// A folder that is removed when its handle is dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("terrace-find-{name}-{}", std::process::id()));
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }
}
