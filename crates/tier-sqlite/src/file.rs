//! The file: one process at a time, one writer, readers that wait for nobody.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Executor, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use terrace_tier::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, MutexGuard};

use crate::error::typed;

/// In the file's header: whose it is ("trce").
const APPLICATION_ID: i32 = 0x7472_6365;
/// In the file's header: the version of the tables.
const TABLES_VERSION: i32 = 1;
/// Hits are read by so many connections at once, beside the writer.
const READERS: usize = 2;
/// Another program (a backup, a shell) may hold the file's lock so long.
const BUSY: Duration = Duration::from_secs(1);

/// The terms of a space (level, schema and shape) are NULL until a `ready` sets them. One row a key:
/// the cell as `terrace_tier::Cell` encodes it. `drop_after` is when a cleaner may
/// delete it, NULL for never.
const TABLES: &str = "
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    tenant TEXT,
    role TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    level TEXT,
    value_schema INTEGER,
    value_shape INTEGER
);
CREATE UNIQUE INDEX spaces_by_name ON spaces (namespace, role, ifnull(tenant, ''), tenant IS NULL);
CREATE TABLE cells (
    space INTEGER NOT NULL,
    digest BLOB NOT NULL,
    key BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    drop_after INTEGER,
    cell BLOB NOT NULL,
    PRIMARY KEY (space, digest)
);
CREATE INDEX cells_by_end ON cells (drop_after) WHERE drop_after IS NOT NULL;
";

/// Where the database is.
pub(crate) enum Place {
    Memory,
    /// The path, and the lock that keeps other openers out.
    File(PathBuf, #[expect(dead_code, reason = "held, never read")] File),
}

/// The open database.
pub(crate) struct Connections {
    writer: Mutex<Writer>,
    readers: Vec<Mutex<SqliteConnection>>,
    next: AtomicUsize,
}

/// The one connection that writes.
pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    synced: bool,
}

/// A connection to read with.
pub(crate) enum Reader<'a> {
    Own(MutexGuard<'a, SqliteConnection>),
    Writers(MutexGuard<'a, Writer>),
}

impl Place {
    /// Takes the lock of `path`: a file beside the database, since SQLite's own locks tell nothing
    /// about a second handle of this process. The system gives it back when the process ends.
    pub(crate) fn lock(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push("-lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| {
            let (kind, message) = match error.kind() {
                std::io::ErrorKind::ReadOnlyFilesystem => (ErrorKind::ReadOnly, "the folder takes no writes"),
                std::io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "the folder may not be written"),
                _ => (ErrorKind::Config, "the lock file beside the database cannot be made: check the path"),
            };
            Error::new(kind, message).with_source(error)
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self::File(path.to_owned(), lock)),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Config,
                "the database file is open in another process, or by another handle of this one: SQLite \
                 serves one; share the handle, or use a file for each process or a server",
            )),
            Err(TryLockError::Error(error)) => {
                Err(Error::new(ErrorKind::Backend, "the file system knows no locks").with_source(error))
            }
        }
    }

    fn options(&self) -> SqliteConnectOptions {
        let options = match self {
            Self::Memory => SqliteConnectOptions::new().in_memory(true),
            Self::File(path, _) => SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal),
        };
        options.synchronous(SqliteSynchronous::Full).busy_timeout(BUSY).disable_statement_logging()
    }
}

impl Connections {
    pub(crate) async fn open(place: &Place) -> Result<Self> {
        let open = async {
            let mut connection = SqliteConnection::connect_with(&place.options()).await?;
            let version = prepare(&mut connection).await?;
            let mut readers = Vec::new();
            if matches!(place, Place::File(..)) && version == Ok(TABLES_VERSION) {
                for _ in 0..READERS {
                    let reader = place.options().pragma("query_only", "1");
                    readers.push(Mutex::new(SqliteConnection::connect_with(&reader).await?));
                }
            }
            Ok((
                version,
                Self {
                    writer: Mutex::new(Writer { connection, synced: true }),
                    readers,
                    next: AtomicUsize::new(0),
                },
            ))
        };
        let (version, connections) = open.await.map_err(|error| typed(error, false))?;
        match version {
            Ok(TABLES_VERSION) => Ok(connections),
            Ok(other) => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the file's tables are of version {other} and this program knows {TABLES_VERSION}: a newer \
                     program made them; update this one or give it a file of its own"
                ),
            )),
            Err(Foreign) => Err(Error::new(
                ErrorKind::Config,
                "the file is a database of another program: give terrace a file of its own",
            )),
        }
    }

    /// The writer; the caller bounds the wait.
    pub(crate) async fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().await
    }

    /// A connection to read with: the writer's own where the database is in memory.
    pub(crate) async fn reader(&self) -> Reader<'_> {
        if self.readers.is_empty() {
            return Reader::Writers(self.writer.lock().await);
        }
        if let Some(free) = self.readers.iter().find_map(|reader| reader.try_lock().ok()) {
            return Reader::Own(free);
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        Reader::Own(self.readers[next].lock().await)
    }
}

impl Writer {
    /// Whether a commit waits for the disk. A lost lease or fill is a miss and may wait until the
    /// next write; a lost write or invalidation would bring an old value back.
    pub(crate) async fn sync(&mut self, wanted: bool) -> Result<(), sqlx::Error> {
        if self.synced != wanted {
            let pragma = if wanted { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.connection.execute(pragma).await?;
            self.synced = wanted;
        }
        Ok(())
    }
}

impl Reader<'_> {
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Writers(writer) => &mut writer.connection,
        }
    }
}

/// A database that another program made.
#[derive(Debug, PartialEq, Eq)]
struct Foreign;

/// Makes the tables where there are none; the version of those that are there.
async fn prepare(connection: &mut SqliteConnection) -> Result<Result<i32, Foreign>, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let application: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *transaction).await?;
    let version: i32 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *transaction).await?;
    if application == APPLICATION_ID {
        return Ok(Ok(version));
    }
    if tables > 0 {
        return Ok(Err(Foreign));
    }
    transaction.execute(sqlx::raw_sql(TABLES)).await?;
    let header = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {TABLES_VERSION}");
    transaction.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(header))).await?;
    transaction.commit().await?;
    Ok(Ok(TABLES_VERSION))
}
