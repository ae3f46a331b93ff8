//! The errors of the testbed.

use std::time::Duration;

/// The result of a call to the testbed.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a server could not be started, reached or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server program is not installed.
    #[error(
        "`{program}` was found neither on PATH nor in the usual folders; install {install}, \
         or run `cargo xtask test`, which installs it where it can"
    )]
    MissingProgram {
        /// The program that was looked for.
        program: &'static str,
        /// The package to install.
        install: &'static str,
    },
    /// A call to the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A program ended although it should run, or failed.
    #[error("{program} exited ({status}); the end of its output:\n{log}")]
    Exited {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of its output.
        log: String,
    },
    /// A server runs and does not answer.
    #[error("{program} did not answer within {waited:?}; the end of its output:\n{log}")]
    NotReady {
        /// The program.
        program: &'static str,
        /// How long the testbed waited for it.
        waited: Duration,
        /// The end of its output.
        log: String,
    },
    /// The server is not running, so it cannot be stopped or asked.
    #[error("{program} is not running")]
    NotRunning {
        /// The program.
        program: &'static str,
    },
    /// A URL from the environment cannot be used. The error leaves out the URL itself, which may
    /// contain a password.
    #[error("{variable} holds no usable URL: {reason}")]
    BadUrl {
        /// The variable that holds it.
        variable: &'static str,
        /// What is wrong with the URL.
        reason: String,
    },
    /// A statement failed.
    #[error("{what}: {source}")]
    Sql {
        /// What was being done.
        what: &'static str,
        /// The error of the server or of the driver.
        source: sqlx::Error,
    },
}

impl Error {
    /// Turns an I/O error into a testbed error that says what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// Turns a database error into a testbed error that says what was being done.
    pub(crate) fn sql(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
        move |source| Error::Sql { what, source }
    }
}
