//! Reading the outbox: what became visible since it was last read, in whatever order it committed.

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use terrace_tier::{Notice, Result, Version};

use crate::{number, statements::OutboxStatements, tenant};

/// The most rows of one read: who is behind by more has lost the thread.
const MOST_ROWS: i64 = 10_000;

/// Where a reader is in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    server: Server,
    /// The snapshot that was read last, as Postgres writes it.
    snapshot: String,
}

/// Which server it is, and which life of it: another one may have gone back in time. So may a table
/// that was made anew, with a database or a schema that was restored from a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    system: i64,
    timeline: String,
    started_at: String,
    table: i64,
}

/// What one read showed.
pub(crate) enum Seen {
    /// Everything since the read before.
    All(Vec<Change>),
    /// Rows were missed, or may have been.
    Gap,
}

/// A row of the outbox.
pub(crate) struct Change {
    pub(crate) namespace: String,
    pub(crate) notice: Notice,
}

impl Position {
    /// The position in front of whatever the server of `connection` will commit from now on; `None`
    /// on a standby, which commits nothing.
    pub(crate) async fn of(
        connection: &mut PgConnection,
        statements: &OutboxStatements,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(statements.server.clone()).fetch_optional(connection).await?;
        row.map(|row| {
            let (system, timeline) = (row.try_get(0)?, row.try_get(1)?);
            let server = Server { system, timeline, started_at: row.try_get(2)?, table: row.try_get(3)? };
            Ok(Self { server, snapshot: row.try_get(4)? })
        })
        .transpose()
    }

    /// As bytes, for another process.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let Server { system, timeline, started_at, table } = &self.server;
        format!("{system}\n{timeline}\n{started_at}\n{table}\n{}", self.snapshot).into()
    }

    /// `None` for what is no position.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.splitn(5, '\n');
        let server = Server {
            system: parts.next()?.parse().ok()?,
            timeline: parts.next()?.to_owned(),
            started_at: parts.next()?.to_owned(),
            table: parts.next()?.parse().ok()?,
        };
        Some(Self { server, snapshot: parts.next()?.to_owned() })
    }

    /// Whether what was read up to `self` says anything of the server of `other`.
    pub(crate) fn is_of_the_server_of(&self, other: &Self) -> bool {
        self.server == other.server
    }

    /// Reads what became visible since the last read, and moves on: changes of the truth, and of copies
    /// if they are wanted.
    pub(crate) async fn read(
        &mut self,
        connection: &mut PgConnection,
        statements: &OutboxStatements,
        namespaces: &[String],
        of_copies: bool,
    ) -> Result<Seen, sqlx::Error> {
        let mut rows = sqlx::query(statements.read.clone())
            .bind(&self.snapshot)
            .bind(namespaces)
            .bind(of_copies)
            .bind(MOST_ROWS + 1)
            .fetch(connection);
        let first = rows.try_next().await?.ok_or(sqlx::Error::RowNotFound)?;
        let (snapshot, gap): (String, bool) = (first.try_get(1)?, first.try_get(2)?);
        let table = first.try_get(6)?;
        let mut changes = Vec::new();
        while let Some(row) = rows.try_next().await? {
            changes.push(change(&row)?);
        }
        drop(rows);
        self.snapshot = snapshot;
        let known = std::mem::replace(&mut self.server.table, table);
        let complete =
            !gap && known == table && i64::try_from(changes.len()).is_ok_and(|count| count <= MOST_ROWS);
        Ok(if complete { Seen::All(changes) } else { Seen::Gap })
    }
}

fn change(row: &PgRow) -> Result<Change, sqlx::Error> {
    let (tenant, key): (&str, Option<Vec<u8>>) = (row.try_get(4)?, row.try_get(5)?);
    let tenant = tenant::tenant_of(tenant);
    let version: Option<i64> = row.try_get(6)?;
    let version = version.map(|version| Version::from_u64(number::unsigned(version)));
    let notice = match key {
        Some(key) => Notice::Key { tenant, key: key.into(), version },
        None => Notice::Clear { tenant },
    };
    Ok(Change { namespace: row.try_get(3)?, notice })
}
