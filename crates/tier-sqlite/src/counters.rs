//! Counters: a table of sums, by group and name.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Executor, SqliteConnection};
use terrace_tier::{Counters, Error, MAX_COUNTERS, OTHER_COUNTER, Result};

use crate::{
    error::{During, NAME, SqlResult, typed},
    shared::Shared,
};

/// How long a caller waits for the writer.
const BUDGET: Duration = Duration::from_secs(1);

/// The table is made when something is counted first, so that files of earlier versions need no upgrade.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS counters ( \
    of_group TEXT NOT NULL, name TEXT NOT NULL, total INTEGER NOT NULL, PRIMARY KEY (of_group, name))";
const HAS_TABLE: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'counters'";
const ADD: &str = "INSERT INTO counters (of_group, name, total) VALUES (?1, CASE WHEN \
    EXISTS (SELECT 1 FROM counters WHERE of_group = ?1 AND name = ?2) \
    OR (SELECT count(*) FROM counters WHERE of_group = ?1) < ?4 THEN ?2 ELSE ?5 END, ?3) \
    ON CONFLICT (of_group, name) DO UPDATE SET total = total + excluded.total";

/// One group of counters.
pub(crate) struct SqliteCounters {
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: String,
}

#[async_trait]
impl Counters for SqliteCounters {
    async fn add(&self, deltas: &[(String, i64)]) -> Result<()> {
        let connections = self.shared.connections().await?;
        let writer = tokio::time::timeout(BUDGET, connections.writer()).await;
        let mut writer = writer.map_err(|_| Error::timeout(BUDGET).during("count").at_tier(NAME))?;
        let work = async {
            writer.set_synced(false).await?;
            writer.begin().await?;
            self.add_all(&mut writer.connection, deltas).await?;
            writer.commit().await
        };
        let done = work.await;
        if done.is_err() {
            writer.roll_back().await;
        }
        done.map_err(|error| typed(error, During::Write).during("count").at_tier(NAME))
    }

    async fn read(&self) -> Result<Vec<(String, i64)>> {
        let mut reader = self.shared.connections().await?.reader().await;
        let connection = reader.connection();
        let work = async {
            let tables: i64 = sqlx::query_scalar(HAS_TABLE).fetch_one(&mut *connection).await?;
            if tables == 0 {
                return Ok(Vec::new());
            }
            let read = sqlx::query_as("SELECT name, total FROM counters WHERE of_group = ?");
            read.bind(&self.group).fetch_all(connection).await
        };
        work.await.map_err(|error| typed(error, During::Read).during("read counters").at_tier(NAME))
    }
}

impl SqliteCounters {
    async fn add_all(&self, connection: &mut SqliteConnection, deltas: &[(String, i64)]) -> SqlResult<()> {
        connection.execute(TABLE).await?;
        for (name, delta) in deltas {
            sqlx::query(ADD)
                .bind(&self.group)
                .bind(name)
                .bind(delta)
                .bind(i64::try_from(MAX_COUNTERS).unwrap_or(i64::MAX))
                .bind(OTHER_COUNTER)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}
