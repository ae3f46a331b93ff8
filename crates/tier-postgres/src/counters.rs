//! Counters that all processes share: one row each.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use terrace_tier::{Counters, Error, ErrorKind, MAX_COUNTERS, OTHER_COUNTER, Result};

use crate::{
    connection::{shared::Shared, timeout::within},
    error::{NAME, Phase},
};

/// How long one request may take. Nobody waits for it but a task in the background and readers of statistics.
const BUDGET: Duration = Duration::from_secs(1);

/// One group of counters.
pub(crate) struct PostgresCounters {
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: String,
}

#[async_trait]
impl Counters for PostgresCounters {
    async fn add(&self, deltas: &[(String, i64)]) -> Result<()> {
        let (names, sums): (Vec<&str>, Vec<i64>) =
            deltas.iter().map(|(name, sum)| (name.as_str(), *sum)).unzip();
        let most = i32::try_from(MAX_COUNTERS).unwrap_or(i32::MAX);
        let add = async {
            self.shared.prepare_schema().await?;
            let mut session = self.shared.pool.session().await?;
            // From here on the rows may be changed although no answer comes.
            let statement = async {
                let added = sqlx::query(self.shared.statements().add_counters.clone())
                    .bind(&self.group)
                    .bind(names)
                    .bind(sums)
                    .bind(most)
                    .bind(OTHER_COUNTER)
                    .execute(session.connection()?)
                    .await;
                self.shared.typed(session.end(added), Phase::Write).map(drop)
            };
            within(BUDGET, statement).await.map_err(|error| match error.kind() {
                ErrorKind::Timeout => Error::new(ErrorKind::Unknown, "no answer within a second"),
                _ => error,
            })
        };
        within(2 * BUDGET, add).await.map_err(|error| error.during("count").at_tier(NAME))
    }

    async fn read(&self) -> Result<Vec<(String, i64)>> {
        let read = async {
            self.shared.prepare_schema().await?;
            let mut session = self.shared.pool.session().await?;
            let rows = sqlx::query_as(self.shared.statements().read_counters.clone())
                .bind(&self.group)
                .fetch_all(session.connection()?)
                .await;
            self.shared.typed(session.end(rows), Phase::Read)
        };
        within(BUDGET, read).await.map_err(|error| error.during("read counters").at_tier(NAME))
    }
}
