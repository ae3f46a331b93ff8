//! The handle: one for each file, shared by many caches.

use std::{fmt, path::Path, sync::Arc};

use terrace_tier::{Backend, Clock, Counters, Namespace, Result, Tier};

use crate::{
    connection::Location, counters::SqliteCounters, error::NAME, namespace::NamespaceRow, shared::Shared,
    tier::SqliteTier,
};

/// SQLite as store of record or as expiring cache tier, embedded: one process uses it, without a
/// server.
///
/// An application makes one handle and shares it among many caches; a clone is cheap. The handle
/// takes the lock of the file at once, so a file serves one handle of one process. The first call
/// that needs the file opens it.
///
/// # Errors
/// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) where another process or handle uses the
/// file, or its folder does not exist.
///
/// # Cost
/// A read is one prepared select on one of two connections and takes no lock that a write waits
/// for. Writes of concurrent callers share transactions of at most 256 writes and 4 MiB, unless one
/// is larger; each is decided and answered alone. A batch of one caller is one transaction. A
/// transaction that changes a record or invalidates a key waits for the disk.
///
/// ```
/// # fn example() -> terrace_tier::Result<()> {
/// let sqlite = terrace_tier_sqlite::Sqlite::memory();
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[derive(Clone)]
pub struct Sqlite(Arc<Shared>);

impl Sqlite {
    /// The database in the file at `path`. The file is created if it does not exist; the files
    /// `path-wal`, `path-shm` and `path-lock` stand beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) where the file is in use or the
    /// folder is missing, [`ErrorKind::Denied`](terrace_tier::ErrorKind::Denied) or
    /// [`ErrorKind::ReadOnly`](terrace_tier::ErrorKind::ReadOnly) where the folder cannot be written.
    pub fn file(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::at(Location::lock(path.as_ref())?, Clock::system()))
    }

    /// A database in memory, which is gone with the last clone of the handle.
    pub fn memory() -> Self {
        Self::at(Location::Memory, Clock::system())
    }

    /// A database in memory on this clock, for tests that drive time by hand.
    pub fn memory_with_clock(clock: Clock) -> Self {
        Self::at(Location::Memory, clock)
    }

    fn at(location: Location, clock: Clock) -> Self {
        Self(Arc::new(Shared::new(location, clock)))
    }
}

impl Backend for Sqlite {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let guard = self.0.namespaces.claim(namespace)?;
        let row = NamespaceRow::new(namespace.clone(), Arc::clone(&self.0), guard);
        Ok(Arc::new(SqliteTier::new(row)))
    }

    fn counters(&self, group: &str) -> Option<Arc<dyn Counters>> {
        Some(Arc::new(SqliteCounters { shared: Arc::clone(&self.0), group: group.to_owned() }))
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.0.location {
            Location::Memory => Path::new(":memory:"),
            Location::File(path, _) => path,
        };
        f.debug_struct("Sqlite").field("path", &path).finish_non_exhaustive()
    }
}
