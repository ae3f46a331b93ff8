//! Where the database is, and the lock that keeps other processes and handles out.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use terrace_tier::{Error, ErrorKind, Result};

/// How long a statement waits while another program (a backup, a shell) holds SQLite's own lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the database is.
pub(crate) enum Location {
    Memory,
    /// The path, and the lock that keeps other processes and handles out.
    File(PathBuf, #[expect(dead_code, reason = "the lock lasts as long as it is kept")] Lock),
}

/// The lock on a file beside the database, since SQLite's own locks do not report a second handle of this
/// process. The operating system releases it when the process ends.
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock for the database at `path`.
    fn take(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push("-lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| {
            let (kind, message) = match error.kind() {
                std::io::ErrorKind::ReadOnlyFilesystem => {
                    (ErrorKind::ReadOnly, "the folder is on a read-only file system")
                }
                std::io::ErrorKind::PermissionDenied => {
                    (ErrorKind::Denied, "this process may not write to the folder")
                }
                _ => (ErrorKind::Config, "the lock file beside the database cannot be made: check the path"),
            };
            Error::new(kind, message).with_source(error)
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(lock)),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Config,
                "the database file is open in another process, or by another handle of this process: a file \
                 serves one handle; share the handle, or use a file for each process or a server",
            )),
            Err(TryLockError::Error(error)) => {
                Err(Error::new(ErrorKind::Backend, "the file system does not support locks")
                    .with_source(error))
            }
        }
    }
}

impl Drop for Lock {
    /// Closing the file would release the lock too late: a child process that another thread is starting has
    /// a copy of the open file until it runs its own program.
    fn drop(&mut self) {
        // A lock that cannot be released here ends with the last copy of the open file.
        let _ = self.0.unlock();
    }
}

impl Location {
    /// Takes the lock for the database at `path`.
    pub(crate) fn lock(path: &Path) -> Result<Self> {
        Ok(Self::File(path.to_owned(), Lock::take(path)?))
    }

    /// How to open a connection to the database.
    pub(super) fn options(&self) -> SqliteConnectOptions {
        let options = match self {
            Self::Memory => SqliteConnectOptions::new().in_memory(true),
            Self::File(path, _) => SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal),
        };
        options.synchronous(SqliteSynchronous::Full).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_although_a_starting_child_has_a_copy_of_the_open_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("terrace.db");
        let lock = Lock::take(&path).expect("the lock");
        let of_the_child = lock.0.try_clone().expect("a copy");
        drop(lock);
        Lock::take(&path).expect("the lock, again");
        drop(of_the_child);
    }
}
