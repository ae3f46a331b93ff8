//! What can go wrong with a server of the testbed.

use std::time::Duration;

/// The result of a testbed call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a server could not be started, reached or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server program is not installed.
    #[error(
        "`{program}` was found neither on PATH nor in the usual places; install {install}, \
         or run `cargo xtask test`, which installs it where it can"
    )]
    MissingProgram {
        /// The program looked for.
        program: &'static str,
        /// What brings it.
        install: &'static str,
    },
    /// A call to the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program ended although it should run, or failed.
    #[error("{program} ended ({status}); its last words:\n{log}")]
    LeaseEnd {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of its output.
        log: String,
    },
    /// A server runs and does not answer.
    #[error("{program} did not answer within {waited:?}; its last words:\n{log}")]
    NotReady {
        /// The program.
        program: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// The end of its output.
        log: String,
    },
    /// The server is not running now, so that it cannot be stopped or asked.
    #[error("{program} is not running")]
    NotRunning {
        /// The program.
        program: &'static str,
    },
    /// A URL given by the environment cannot be used; its text is not shown,
    /// for it may hold a password.
    #[error("{variable} holds no usable URL: {reason}")]
    BadUrl {
        /// The variable that holds it.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A statement failed.
    #[error("{what}: {source}")]
    Sql {
        /// What was being done.
        what: &'static str,
        /// The server's or the driver's answer.
        source: sqlx::Error,
    },
}

impl Error {
    /// Turns an I/O error into one that says what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// Turns a database error into one that says what was being done.
    pub(crate) fn sql(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
        move |source| Error::Sql { what, source }
    }
}
