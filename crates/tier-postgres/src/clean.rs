//! Deletes dead rows in the background: in bounded batches, and without waiting for a lock.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::Row;
use terrace_tier::Result;

use crate::{
    connection::{shared::Shared, timeout::within},
    error::{Phase, typed},
};

/// The mean time between two rounds.
const PAUSE: Duration = Duration::from_secs(60);
/// The most time for a round.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);
/// The most rows of one statement, which is a transaction.
const BATCH_ROWS: i64 = 1000;
/// The most rows of the outbox in one statement.
const TRIM_ROWS: i32 = 5_000;
/// The most batches of one table in a round; the next round deletes the rest.
const MAX_BATCHES: usize = 100;

/// Starts the task, unless it runs. It ends when the handle is dropped, or with its runtime.
pub(crate) fn start(shared: &Arc<Shared>) {
    let mut cleaner = shared.cleaner.lock();
    if cleaner.as_ref().is_some_and(|cleaner| !cleaner.is_finished()) {
        return;
    }
    let cleared = Arc::clone(&shared.cleared);
    let weak = Arc::downgrade(shared);
    *cleaner = Some(tokio::spawn(async move {
        loop {
            // Random, so that many processes do not start at the same moment.
            let pause = PAUSE.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cleared.notified() => {}
            }
            let Some(shared) = Weak::upgrade(&weak) else { return };
            if let Err(error) = within(ROUND_TIMEOUT, round(&shared)).await {
                tracing::debug!(%error, "a round of cleaning in Postgres failed; the next round goes on");
            }
        }
    }));
}

/// One round over all tables, and over the namespaces that were cleared.
pub(crate) async fn round(shared: &Shared) -> Result<()> {
    shared.pool.close_idle();
    sweep(shared).await?;
    let statements = &shared.statements.clean;
    for statement in [&statements.copies, &statements.keep_alives, &statements.records] {
        for _ in 0..MAX_BATCHES {
            let mut session = shared.pool.session().await?;
            let connection = session.connection()?;
            let done = sqlx::query(statement.clone()).bind(BATCH_ROWS).execute(connection).await;
            let done = shared.typed(session.end(done), Phase::Write)?;
            if done.rows_affected() < BATCH_ROWS.unsigned_abs() {
                break;
            }
        }
    }
    trim_outbox(shared).await
}

/// Deletes the entries of earlier epochs in the namespaces that were cleared.
async fn sweep(shared: &Shared) -> Result<()> {
    let statements = &shared.statements.clean;
    let mut session = shared.pool.session().await?;
    let connection = session.connection()?;
    let cleared = sqlx::query(statements.cleared.clone()).fetch_all(connection).await;
    for row in shared.typed(session.end(cleared), Phase::Read)? {
        let id: i32 = row.try_get(0).map_err(|error| typed(error, Phase::Read))?;
        let epoch: i64 = row.try_get(1).map_err(|error| typed(error, Phase::Read))?;
        sweep_namespace(shared, id, epoch).await?;
    }
    Ok(())
}

async fn sweep_namespace(shared: &Shared, id: i32, epoch: i64) -> Result<()> {
    let statements = &shared.statements.clean;
    let mut last: Vec<u8> = Vec::new();
    loop {
        let mut session = shared.pool.session().await?;
        let connection = session.connection()?;
        let page = sqlx::query_scalar(statements.sweep.clone())
            .bind(id)
            .bind(epoch)
            .bind(&last)
            .bind(BATCH_ROWS)
            .fetch_optional(connection)
            .await;
        match shared.typed(session.end(page), Phase::Write)? {
            Some(digest) => last = digest,
            None => break,
        }
    }
    let mut session = shared.pool.session().await?;
    let connection = session.connection()?;
    let ended = sqlx::query(statements.end_sweep.clone()).bind(id).bind(epoch).execute(connection).await;
    shared.typed(session.end(ended), Phase::Write)?;
    Ok(())
}

/// Deletes rows of the outbox that are ten minutes old: followers have read them by then.
async fn trim_outbox(shared: &Shared) -> Result<()> {
    for _ in 0..MAX_BATCHES {
        let mut session = shared.pool.session().await?;
        let connection = session.connection()?;
        let statement = shared.statements.outbox.trim.clone();
        let deleted = sqlx::query_scalar::<_, i64>(statement).bind(TRIM_ROWS).fetch_one(connection).await;
        if shared.typed(session.end(deleted), Phase::Write)? < i64::from(TRIM_ROWS) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, PgConnection};
    use terrace_testbed::shared_postgres;

    use super::*;
    use crate::connection::pool::Pool;

    #[tokio::test]
    async fn a_sweep_leaves_what_was_written_after_the_next_clear() {
        let url = shared_postgres().await.unwrap();
        let pool = Pool::own(url.parse().unwrap(), 2);
        let shared = &Arc::new(Shared::new(pool, "terrace", 0));
        shared.prepare_schema().await.unwrap();
        let mut server = PgConnection::connect(&url).await.unwrap();
        // The namespace was cleared twice. The sweep began after the first clear and read its epoch, 1.
        sqlx::raw_sql(
            "INSERT INTO terrace.spaces (namespace, tenant, role, epoch, sweep) \
                 VALUES ('n', '', 'cache', 2, true); \
             INSERT INTO terrace.cache_entries (space, digest, key, state, version, epoch, written, \
                 fresh_until, stale_until, expires_at) \
                 SELECT id, digest, '', 'N', 1, entry_epoch, 0, -1, -1, -1 FROM terrace.spaces, \
                 (VALUES ('\\x01'::bytea, 1), ('\\x02', 2)) AS entries (digest, entry_epoch)",
        )
        .execute(&mut server)
        .await
        .unwrap();
        let (id, left) =
            ("SELECT id FROM terrace.spaces", "SELECT epoch FROM terrace.cache_entries ORDER BY 1");
        let id: i32 = sqlx::query_scalar(id).fetch_one(&mut server).await.unwrap();
        let mut left = async || sqlx::query_scalar::<_, i64>(left).fetch_all(&mut server).await.unwrap();
        sweep_namespace(shared, id, 1).await.unwrap();
        assert!(left().await.contains(&2), "a live entry was deleted");
        sweep_namespace(shared, id, 2).await.unwrap();
        assert_eq!(left().await, [2], "the next sweep deletes the dead entry");
    }

    #[tokio::test]
    async fn a_handle_that_keeps_nothing_of_its_own_is_cleaned_too() {
        let url = shared_postgres().await.unwrap();
        let shared = &Arc::new(Shared::new(Pool::own(url.parse().unwrap(), 2), "terrace", 0));
        // As a handle does that only follows the log or writes to it.
        shared.prepare_schema().await.unwrap();
        shared.cleared.notify_one();
        let mut server = PgConnection::connect(&url).await.unwrap();
        let trimmed = "SELECT count(*) FROM terrace.outbox_snapshots";
        while sqlx::query_scalar::<_, i64>(trimmed).fetch_one(&mut server).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    }
}
