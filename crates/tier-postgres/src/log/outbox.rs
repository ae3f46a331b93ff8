//! Reads the outbox: the rows that became visible since the last read, in any order of commits.

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use terrace_tier::{Error, ErrorKind, Finding, FindingTopic, Notice, Result, Version};

use crate::{
    namespace::tenant::tenant_of,
    sql::{numbers::unsigned, statements::OutboxStatements},
};

/// The most rows of one read. A reader that is further behind gets a gap.
const MAX_ROWS: i64 = 10_000;

/// The position of a reader in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    server: ServerIdentity,
    /// The snapshot of the last read, in the text form of Postgres.
    snapshot: String,
}

/// The start of the server, and its table. After a restart or a failover the data may be older than before,
/// and a standby that is promoted was started at another time than the primary. The table's number differs
/// if it was made anew, from the dump of a database or a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServerIdentity {
    started_at: String,
    table: i64,
}

/// The result of one read.
pub(super) struct OutboxRead {
    pub(super) changes: Changes,
    /// The server takes no writes: another one may be the primary.
    pub(super) read_only: bool,
}

/// What changed since the last read.
pub(super) enum Changes {
    /// All changes since the last read.
    Complete(Vec<Change>),
    /// Changes are missing, or may be.
    Gap,
}

/// A row of the outbox.
pub(super) struct Change {
    /// The number of the row.
    pub(super) number: u64,
    pub(super) namespace: String,
    pub(super) notice: Notice,
}

impl Position {
    /// The position before all that the server of `connection` commits from now on. `None` on a standby,
    /// which commits nothing.
    pub(super) async fn of(
        connection: &mut PgConnection,
        statements: &OutboxStatements,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(statements.server.clone()).fetch_optional(connection).await?;
        row.map(|row| {
            let server = ServerIdentity { started_at: row.try_get(0)?, table: row.try_get(1)? };
            Ok(Self { server, snapshot: row.try_get(2)? })
        })
        .transpose()
    }

    /// The position as bytes, for another process.
    pub(super) fn to_bytes(&self) -> Bytes {
        let ServerIdentity { started_at, table } = &self.server;
        format!("{started_at}\n{table}\n{}", self.snapshot).into()
    }

    /// The position in `bytes`, or `None` if they hold none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.splitn(3, '\n');
        let server =
            ServerIdentity { started_at: parts.next()?.to_owned(), table: parts.next()?.parse().ok()? };
        Some(Self { server, snapshot: parts.next()?.to_owned() })
    }

    /// Whether both positions are of the same server, start and table.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        self.server == other.server
    }

    /// Reads the changes that became visible since the last read, and advances the position. It reads
    /// changes of the origin and of records, and with `of_copies` also changes of cached copies.
    pub(super) async fn read(
        &mut self,
        connection: &mut PgConnection,
        statements: &OutboxStatements,
        namespaces: &[String],
        of_copies: bool,
    ) -> Result<OutboxRead, sqlx::Error> {
        let mut rows = sqlx::query(statements.read.clone())
            .bind(&self.snapshot)
            .bind(namespaces)
            .bind(of_copies)
            .bind(MAX_ROWS + 1)
            .fetch(connection);
        let first = rows.try_next().await?.ok_or(sqlx::Error::RowNotFound)?;
        let (snapshot, gap): (String, bool) = (first.try_get(1)?, first.try_get(2)?);
        let (table, read_only) = (first.try_get(6)?, first.try_get(7)?);
        let mut changes = Vec::new();
        while let Some(row) = rows.try_next().await? {
            changes.push(change(&row)?);
        }
        drop(rows);
        self.snapshot = snapshot;
        let known_table = std::mem::replace(&mut self.server.table, table);
        let complete =
            !gap && known_table == table && i64::try_from(changes.len()).is_ok_and(|count| count <= MAX_ROWS);
        let changes = if complete { Changes::Complete(changes) } else { Changes::Gap };
        Ok(OutboxRead { changes, read_only })
    }
}

/// The error for a server that is a standby.
pub(super) fn standby_error() -> Error {
    let cause = "a standby has no log of its own";
    Finding::stops(FindingTopic::Role, cause, "connect to the primary").into_error(ErrorKind::ReadOnly)
}

fn change(row: &PgRow) -> Result<Change, sqlx::Error> {
    let (tenant, key): (&str, Option<Vec<u8>>) = (row.try_get(4)?, row.try_get(5)?);
    let tenant = tenant_of(tenant);
    let version: Option<i64> = row.try_get(6)?;
    let version = version.map(|version| Version::from_u64(unsigned(version)));
    let notice = match key {
        Some(key) => Notice::Key { tenant, key: key.into(), version },
        None => Notice::Clear { tenant },
    };
    Ok(Change { number: unsigned(row.try_get(0)?), namespace: row.try_get(3)?, notice })
}
