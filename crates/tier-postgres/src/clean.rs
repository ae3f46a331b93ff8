//! The background cleaning: what is dead is deleted in bounded batches, in nobody's way.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::Row;
use terrace_core::Result;

use crate::{
    error::{During, typed},
    outbox,
    postgres::Shared,
    setup::within,
};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(60);
/// A round ends after this time at the latest.
const ROUND: Duration = Duration::from_secs(60);
/// Rows a statement, one transaction each.
const BATCH_ROWS: i64 = 1000;
/// Batches a round and table: what is left waits for the next round.
const BATCHES: usize = 100;

/// Starts the task; it ends with the handle's last use.
pub(crate) fn start(shared: &Arc<Shared>) {
    let cleared = Arc::clone(&shared.cleared);
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        loop {
            // Spread, so that many processes do not start at the same moment.
            let pause = PAUSE.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cleared.notified() => {}
            }
            let Some(shared) = Weak::upgrade(&weak) else { return };
            if let Err(error) = within(ROUND, round(&shared)).await {
                tracing::debug!(%error, "cleaning stopped; it goes on with the next round");
            }
        }
    });
}

/// One round over both tables and the namespaces that were cleared.
pub(crate) async fn round(shared: &Shared) -> Result<()> {
    shared.pool.shrink();
    sweep(shared).await?;
    let statements = &shared.statements.clean;
    for statement in [&statements.copies, &statements.records] {
        for _ in 0..BATCHES {
            let mut session = shared.session().await?;
            let connection = session.connection()?;
            let done = sqlx::query(statement.clone()).bind(BATCH_ROWS).execute(connection).await;
            let done = shared.note(session.end(done), During::Write)?;
            if done.rows_affected() < BATCH_ROWS.unsigned_abs() {
                break;
            }
        }
    }
    outbox::trim(shared, BATCHES).await
}

/// Deletes the entries of other epochs of the namespaces that were cleared.
async fn sweep(shared: &Shared) -> Result<()> {
    let statements = &shared.statements.clean;
    let mut session = shared.session().await?;
    let connection = session.connection()?;
    let cleared = sqlx::query(statements.cleared.clone()).fetch_all(connection).await;
    for row in shared.note(session.end(cleared), During::Read)? {
        let space: i32 = row.try_get(0).map_err(|error| typed(error, During::Read))?;
        let epoch: i64 = row.try_get(1).map_err(|error| typed(error, During::Read))?;
        let mut last: Vec<u8> = Vec::new();
        loop {
            let mut session = shared.session().await?;
            let connection = session.connection()?;
            let page = sqlx::query_scalar(statements.sweep.clone())
                .bind(space)
                .bind(epoch)
                .bind(&last)
                .bind(BATCH_ROWS)
                .fetch_optional(connection)
                .await;
            match shared.note(session.end(page), During::Write)? {
                Some(digest) => last = digest,
                None => break,
            }
        }
        let mut session = shared.session().await?;
        let connection = session.connection()?;
        let swept = sqlx::query(statements.swept.clone()).bind(space).bind(epoch).execute(connection).await;
        shared.note(session.end(swept), During::Write)?;
    }
    Ok(())
}
