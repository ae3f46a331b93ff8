//! The paths of the server programs, or an error that says what to install.

use std::path::PathBuf;

use crate::{Error, Result};
use terrace_server_programs::find;

/// The variable with the path of another `redis-server`, or of a server that is compatible with it.
const REDIS_SERVER: &str = "TERRACE_TEST_REDIS_SERVER";

/// The path of `redis-server`: `TERRACE_TEST_REDIS_SERVER`, or the one that is installed.
pub(crate) fn redis_server() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(REDIS_SERVER).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
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

const INSTALL_PROMETHEUS: &str = "Prometheus (Debian/Ubuntu: `apt-get install prometheus`; \
                                  macOS: `brew install prometheus`)";

/// The path of `prometheus`.
pub(crate) fn prometheus() -> Result<PathBuf> {
    let program = "prometheus";
    find(program).ok_or(Error::MissingProgram { program, install: INSTALL_PROMETHEUS })
}

/// The path of `promtool`, which checks metrics, rules and queries.
///
/// # Errors
/// [`Error::MissingProgram`] if it is not installed.
pub fn promtool() -> Result<PathBuf> {
    let program = "promtool";
    find(program).ok_or(Error::MissingProgram { program, install: INSTALL_PROMETHEUS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_install() {
        assert_eq!(find("no-such-server-anywhere"), None);
        let error = Error::MissingProgram { program: "redis-server", install: "Redis" };
        assert!(error.to_string().contains("install Redis"));
    }
}
