//! The paths of the server programs, or an error that says what to install.

use std::path::PathBuf;

use crate::find::find;
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
