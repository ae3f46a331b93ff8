//! The connections to the database: one writes, and the others read without waiting for it.

mod file;
mod tables;

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Connection, Executor, SqliteConnection};
use terrace_tier::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, MutexGuard};

pub(crate) use file::Location;
use tables::Owner;

use crate::error::{During, typed};

/// How many connections read at once, beside the writer.
const READERS: usize = 2;

/// The open database.
pub(crate) struct Connections {
    writer: Mutex<Writer>,
    readers: Vec<Mutex<SqliteConnection>>,
    next: AtomicUsize,
}

/// The one connection that writes.
pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    /// Whether a commit waits for the disk.
    synced: bool,
    /// Whether a transaction may be open. The client's own transactions count wrongly after an error at which
    /// SQLite has rolled back by itself, as it does on a full disk, and then refuse each later one.
    open: bool,
}

/// A connection to read with.
pub(crate) enum Reader<'a> {
    /// A connection that only reads.
    Own(MutexGuard<'a, SqliteConnection>),
    /// The connection of the writer.
    Writers(MutexGuard<'a, Writer>),
}

impl Connections {
    pub(crate) async fn open(location: &Location) -> Result<Self> {
        let open = async {
            let mut connection = SqliteConnection::connect_with(&location.options()).await?;
            let owner = tables::prepare(&mut connection).await?;
            let mut readers = Vec::new();
            if matches!(location, Location::File(..)) && owner == Owner::Terrace(tables::VERSION) {
                for _ in 0..READERS {
                    let reader = location.options().pragma("query_only", "1");
                    readers.push(Mutex::new(SqliteConnection::connect_with(&reader).await?));
                }
            }
            let writer = Mutex::new(Writer { connection, synced: true, open: false });
            Ok((owner, Self { writer, readers, next: AtomicUsize::new(0) }))
        };
        let (owner, connections) = open.await.map_err(|error| typed(error, During::Read))?;
        match owner {
            Owner::Terrace(tables::VERSION) => Ok(connections),
            Owner::Terrace(other) => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the file's tables are of version {other} and this program knows version {}: a newer \
                     program made them; update this program or give it a file of its own",
                    tables::VERSION
                ),
            )),
            Owner::Other => Err(Error::new(
                ErrorKind::Config,
                "the file is a database of another program: give terrace a file of its own",
            )),
        }
    }

    /// The writer, without an open transaction; the caller bounds the wait.
    pub(crate) async fn writer(&self) -> MutexGuard<'_, Writer> {
        let mut writer = self.writer.lock().await;
        // A caller that gave up may have left a transaction.
        writer.roll_back().await;
        writer
    }

    /// A connection to read with. A database in memory has one connection, so this is the writer's.
    pub(crate) async fn reader(&self) -> Reader<'_> {
        if self.readers.is_empty() {
            return Reader::Writers(self.writer().await);
        }
        if let Some(free) = self.readers.iter().find_map(|reader| reader.try_lock().ok()) {
            return Reader::Own(free);
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        Reader::Own(self.readers[next].lock().await)
    }
}

impl Writer {
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.open = true;
        self.connection.execute("BEGIN IMMEDIATE").await.map(drop)
    }

    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("COMMIT").await?;
        self.open = false;
        Ok(())
    }

    /// Ends the transaction, if one is open. An error says that SQLite has rolled it back already; in any other
    /// case the next beginning fails and the next writer tries again.
    pub(crate) async fn roll_back(&mut self) {
        if self.open {
            // The flag stays set while a caller that gives up may leave the statement behind.
            let _ended = self.connection.execute("ROLLBACK").await;
            self.open = false;
        }
    }

    /// Sets whether a commit waits for the disk.
    ///
    /// A lost lease or fill is a miss, so its commit may wait until the next write. A lost write or
    /// invalidation would bring an old value back.
    pub(crate) async fn set_synced(&mut self, synced: bool) -> Result<(), sqlx::Error> {
        if self.synced != synced {
            let pragma = if synced { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.connection.execute(pragma).await?;
            self.synced = synced;
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
