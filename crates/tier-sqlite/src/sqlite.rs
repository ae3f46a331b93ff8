//! The handle: one for a file, shared by many caches.

use std::{fmt, path::Path, sync::Arc};

use terrace_tier::{Backend, Clock, Namespace, Result, Tier};

use crate::{file::Place, shared::Shared, space::NamespaceRow, tier::SqliteTier};

/// SQLite as store of record or as expiring cache tier, embedded: no server, one process.
///
/// Made once and shared by many caches; cloning is cheap. The file is opened with the first call
/// that needs it, and locked at once: it serves one handle of one process.
///
/// # Errors
/// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) where another process or handle has the
/// file, or its folder is not there.
///
/// # Cost
/// A read is one prepared select on one of two connections and takes no lock that a write waits
/// for. Writes share transactions; one that changes a record or invalidates waits for the disk.
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
    /// The database in the file at `path`, made if it is not there. Beside it are `path-wal`,
    /// `path-shm` and `path-lock`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) where the file is in use or the
    /// folder is missing, [`ErrorKind::Denied`](terrace_tier::ErrorKind::Denied) or
    /// [`ErrorKind::ReadOnly`](terrace_tier::ErrorKind::ReadOnly) where it cannot be written.
    pub fn file(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::at(Place::lock(path.as_ref())?, Clock::system()))
    }

    /// A database in memory: it is gone with the last clone of the handle.
    pub fn memory() -> Self {
        Self::at(Place::Memory, Clock::system())
    }

    /// A database in memory on this clock: for tests that drive time by hand.
    pub fn memory_with_clock(clock: Clock) -> Self {
        Self::at(Place::Memory, clock)
    }

    fn at(place: Place, clock: Clock) -> Self {
        Self(Arc::new(Shared::new(place, clock)))
    }
}

impl Backend for Sqlite {
    fn name(&self) -> &str {
        "sqlite"
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        let claim = self.0.spaces.claim(space)?;
        Ok(Arc::new(SqliteTier::new(NamespaceRow::new(space.clone(), Arc::clone(&self.0), claim))))
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.0.place {
            Place::Memory => Path::new(":memory:"),
            Place::File(path, _) => path,
        };
        f.debug_struct("Sqlite").field("path", &path).finish_non_exhaustive()
    }
}
