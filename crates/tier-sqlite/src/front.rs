//! Write-behind fronts: who may write the records of a namespace, and in which term.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};
use terrace_tier::{
    FrontClaim, FrontRow, FrontStore, FrontTerm, Op, Result, Role, Term, Timestamp, Version,
    direct_write_refused,
};

use crate::{
    connection::Writer,
    error::{During, SqlResult, typed},
    namespace::NamespaceRow,
    tier::SqliteTier,
};

/// The front of a namespace and the highest version of its records. A cell has its version in bytes 2 to 9, and
/// SQLite compares blobs byte by byte.
const HIGHEST: &str = "SELECT max(substr(c.cell, 2, 8)) FROM cells c JOIN spaces s ON s.id = c.space \
    WHERE s.namespace = ? AND s.role = 'store'";

#[async_trait]
impl FrontStore for SqliteTier {
    async fn open_front(&self, claim: &FrontClaim) -> Result<FrontTerm> {
        let row = &self.row;
        row.id().await?;
        let (name, now) = (&row.namespace.name, row.shared.clock.now());
        let mut writer = row.shared.connections().await?.writer().await;
        let opened = in_transaction(&mut writer, async |connection| {
            let before = find(connection, name).await?;
            let opened = match FrontRow::opened(before.as_ref(), claim, now) {
                Ok(opened) => opened,
                Err(error) => return Ok(Err(error)),
            };
            keep(connection, name, &opened).await?;
            let highest: Option<Vec<u8>> =
                sqlx::query_scalar(HIGHEST).bind(name).fetch_one(&mut *connection).await?;
            let highest = highest.and_then(|bytes| Some(u64::from_be_bytes(*bytes.first_chunk()?)));
            let high = Version::from_u64(highest.unwrap_or(0));
            Ok(Ok(FrontTerm { term: opened.term, high }))
        });
        opened.await?
    }

    async fn hold_front(&self, term: Term, hold: Duration) -> Result<()> {
        let until = self.row.shared.clock.now().after(hold);
        self.change(term, |row| FrontRow { until, ..row }).await
    }

    async fn release_front(&self, term: Term) -> Result<()> {
        self.change(term, FrontRow::released).await
    }
}

impl SqliteTier {
    async fn change(&self, term: Term, change: impl Fn(FrontRow) -> FrontRow) -> Result<()> {
        let row = &self.row;
        let name = &row.namespace.name;
        let mut writer = row.shared.connections().await?.writer().await;
        let changed = in_transaction(&mut writer, async |connection| {
            let before = find(connection, name).await?;
            if let Err(error) = FrontRow::check(before.as_ref(), term) {
                return Ok(Err(error));
            }
            if let Some(before) = before {
                keep(connection, name, &change(before)).await?;
            }
            Ok(Ok(()))
        });
        changed.await?
    }
}

/// Runs the steps in one synced transaction, which is rolled back after an error.
async fn in_transaction<T>(
    writer: &mut Writer,
    steps: impl AsyncFnOnce(&mut SqliteConnection) -> SqlResult<Result<T>>,
) -> Result<Result<T>> {
    let work = async {
        writer.set_synced(true).await?;
        writer.begin().await?;
        let done = steps(&mut writer.connection).await?;
        writer.commit().await?;
        Ok(done)
    };
    let done: SqlResult<Result<T>> = work.await;
    if done.is_err() {
        writer.roll_back().await;
    }
    done.map_err(|error| typed(error, During::Write))
}

/// The front of the records' namespace, as the writes of one transaction find it.
pub(crate) struct Front(Option<FrontRow>);

impl Front {
    /// Looks the front up, where writes of `batch` need it.
    pub(crate) async fn of(
        row: &NamespaceRow,
        connection: &mut SqliteConnection,
        mut ops: impl Iterator<Item = &Op>,
    ) -> SqlResult<Self> {
        let is_store = row.namespace.role == Role::Store;
        if !is_store || !ops.any(|op| op.is_direct_write() || op.term().is_some()) {
            return Ok(Self(None));
        }
        find(connection, &row.namespace.name).await.map(Self)
    }

    /// Refuses a write that goes past the front, or that an earlier front sends. The inner error is the refusal.
    pub(crate) async fn permit(
        &mut self,
        row: &NamespaceRow,
        connection: &mut SqliteConnection,
        op: &Op,
    ) -> SqlResult<Result<()>> {
        match (op.term(), row.namespace.role, self.0) {
            (Some(_), Role::Cache, _) => Ok(Err(op.unsupported())),
            (Some(term), Role::Store, front) => Ok(FrontRow::check(front.as_ref(), term)),
            (None, Role::Store, Some(front)) if op.is_direct_write() => {
                if front.is_held(row.shared.clock.now()) {
                    return Ok(Err(direct_write_refused()));
                }
                if front.id != 0 {
                    let released = front.released();
                    keep(connection, &row.namespace.name, &released).await?;
                    self.0 = Some(released);
                }
                Ok(Ok(()))
            }
            _ => Ok(Ok(())),
        }
    }
}

async fn find(connection: &mut SqliteConnection, namespace: &str) -> SqlResult<Option<FrontRow>> {
    let row = sqlx::query("SELECT id, nonce, term, until FROM fronts WHERE namespace = ?")
        .bind(namespace)
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        let number = |column: usize| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
        let (id, nonce, term, until) = (number(0)?, number(1)?, number(2)?, number(3)?);
        Ok(FrontRow { id, nonce, term: Term::from_u64(term), until: Timestamp::from_millis(until) })
    })
    .transpose()
}

async fn keep(connection: &mut SqliteConnection, namespace: &str, row: &FrontRow) -> SqlResult<()> {
    sqlx::query("INSERT OR REPLACE INTO fronts (namespace, id, nonce, term, until) VALUES (?, ?, ?, ?, ?)")
        .bind(namespace)
        .bind(row.id.cast_signed())
        .bind(row.nonce.cast_signed())
        .bind(row.term.as_u64().cast_signed())
        .bind(row.until.as_millis().cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}
