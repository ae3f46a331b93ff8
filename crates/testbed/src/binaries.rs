//! Finds the server programs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The path of `redis-server`.
pub(crate) fn redis_server() -> Result<PathBuf> {
    find("redis-server").ok_or(Error::MissingProgram {
        program: "redis-server",
        install: "Redis 6.2 or newer (Debian/Ubuntu: `apt-get install redis-server`; \
                  macOS: `brew install redis`)",
    })
}

/// The path of a program that comes with Postgres: `postgres` or `initdb`.
pub(crate) fn postgres_program(program: &'static str) -> Result<PathBuf> {
    find(program).ok_or(Error::MissingProgram {
        program,
        install: "Postgres 13 or newer (Debian/Ubuntu: `apt-get install postgresql`; \
                  macOS: `brew install postgresql@16`)",
    })
}

/// PATH first, then the places where packages put servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(usual_places())
        .map(|folder| folder.join(program))
        .find(|candidate| is_program(candidate))
}

/// Folders outside PATH, the newest version of each first.
fn usual_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/bin"]
            .into_iter()
            .map(PathBuf::from)
            .collect();
    // Debian keeps Postgres by version; Homebrew keeps it out of PATH.
    places.extend(versions("/usr/lib/postgresql", "", "bin"));
    for prefix in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        places.extend(versions(prefix, "postgresql", "bin"));
        places.push(Path::new(prefix).join("redis/bin"));
    }
    for file in ["/usr/pgsql-17/bin", "/usr/pgsql-16/bin", "/usr/pgsql-15/bin"] {
        places.push(PathBuf::from(file));
    }
    places
}

/// `folder/<name that starts with prefix>/tail` for each such name, last name first.
fn versions(folder: &str, prefix: &str, tail: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(tail))
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
        let folder = tempfile::tempdir().unwrap();
        for name in ["postgresql@14", "postgresql@16", "redis"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let found = versions(folder.path().to_str().unwrap(), "postgresql", "bin");
        let expected = ["postgresql@16/bin", "postgresql@14/bin"].map(|name| folder.path().join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_without_the_execute_bit_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis-server");
        std::fs::write(&file, "").unwrap();
        assert!(!is_program(&file));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_program(&file));
        assert!(!is_program(folder.path()));
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        assert_eq!(find("no-such-server-anywhere"), None);
        let error = Error::MissingProgram { program: "redis-server", install: "Redis" };
        assert!(error.to_string().contains("install Redis"));
    }
}
