//! The background cleaning: what is dead is deleted in bounded batches, in nobody's way.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::Row;
use terrace_tier::Result;

use crate::{
    error::{During, typed},
    setup::within,
    shared::Shared,
};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(60);
/// A round ends after this time at the latest.
const ROUND: Duration = Duration::from_secs(60);
/// Rows a statement, one transaction each.
const BATCH_ROWS: i64 = 1000;
/// Rows of the outbox a statement.
const TRIM_ROWS: i32 = 5_000;
/// Batches a round and table: what is left waits for the next round.
const BATCHES: usize = 100;

/// Starts the task, unless it runs; it ends with the handle's last use, or with its runtime.
pub(crate) fn start(shared: &Arc<Shared>) {
    let mut cleaner = shared.cleaner.lock();
    if cleaner.as_ref().is_some_and(|cleaner| !cleaner.is_finished()) {
        return;
    }
    let cleared = Arc::clone(&shared.cleared);
    let weak = Arc::downgrade(shared);
    *cleaner = Some(tokio::spawn(async move {
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
    }));
}

/// One round over both tables and the namespaces that were cleared.
pub(crate) async fn round(shared: &Shared) -> Result<()> {
    shared.pool.shrink();
    sweep(shared).await?;
    let statements = &shared.statements.clean;
    for statement in [&statements.copies, &statements.signs, &statements.records] {
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
    trim_outbox(shared).await
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
        sweep_space(shared, space, epoch).await?;
    }
    Ok(())
}

async fn sweep_space(shared: &Shared, space: i32, epoch: i64) -> Result<()> {
    let statements = &shared.statements.clean;
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
    Ok(())
}

/// Deletes rows of the outbox that everyone has read.
async fn trim_outbox(shared: &Shared) -> Result<()> {
    for _ in 0..BATCHES {
        let mut session = shared.session().await?;
        let connection = session.connection()?;
        let statement = shared.statements.outbox.trim.clone();
        let gone = sqlx::query_scalar::<_, i64>(statement).bind(TRIM_ROWS).fetch_one(connection).await;
        if shared.note(session.end(gone), During::Write)? < i64::from(TRIM_ROWS) {
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
    use crate::pool::Pool;

    #[tokio::test]
    async fn a_sweep_leaves_what_was_written_after_the_next_clear() {
        let url = shared_postgres().await.unwrap();
        let pool = Pool::own(url.parse().unwrap(), 2);
        let shared = &Arc::new(Shared::new(pool, "terrace", 0));
        shared.prepared().await.unwrap();
        let mut server = PgConnection::connect(&url).await.unwrap();
        // Cleared twice: the sweep began after the first clear and read its epoch, 1.
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
        sweep_space(shared, id, 1).await.unwrap();
        assert!(left().await.contains(&2), "a live entry was deleted");
        sweep_space(shared, id, 2).await.unwrap();
        assert_eq!(left().await, [2], "the next sweep takes what is dead");
    }

    #[tokio::test]
    async fn a_handle_that_keeps_nothing_of_its_own_is_cleaned_too() {
        let url = shared_postgres().await.unwrap();
        let shared = &Arc::new(Shared::new(Pool::own(url.parse().unwrap(), 2), "terrace", 0));
        // As by one that only follows the log, or writes it.
        shared.prepared().await.unwrap();
        shared.cleared.notify_one();
        let mut server = PgConnection::connect(&url).await.unwrap();
        let trimmed = "SELECT count(*) FROM terrace.outbox_snapshots";
        while sqlx::query_scalar::<_, i64>(trimmed).fetch_one(&mut server).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    }
}
