//! The background cleaning: what is dead is deleted in bounded batches.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{Clock, Result};
use tokio::sync::Notify;

use crate::{error::typed, file::Connections};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(60);
/// Rows a transaction: writers wait for one at most.
const BATCH_ROWS: i64 = 500;
/// Batches a round: what is left waits for the next one.
const BATCHES: usize = 200;

const ENDED: &str = "DELETE FROM cells WHERE rowid IN \
    (SELECT rowid FROM cells WHERE drop_after <= ? ORDER BY drop_after LIMIT ?)";

const CLEARED: &str = "DELETE FROM cells WHERE rowid IN \
    (SELECT c.rowid FROM spaces s JOIN cells c ON c.space = s.id \
     WHERE s.role = 'cache' AND c.epoch <> s.epoch AND ? IS NOT NULL LIMIT ?)";

/// Starts the task; it ends with the last use of `connections`.
pub(crate) fn start(connections: &Arc<Connections>, clock: Clock, cleared: Arc<Notify>) {
    let weak = Arc::downgrade(connections);
    tokio::spawn(async move {
        let mut statement = CLEARED;
        loop {
            let Some(connections) = Weak::upgrade(&weak) else { return };
            if let Err(error) = round(&connections, &clock, statement).await {
                tracing::debug!(%error, "cleaning stopped; it goes on with the next round");
            }
            drop(connections);
            statement = tokio::select! {
                () = tokio::time::sleep(PAUSE) => ENDED,
                () = cleared.notified() => CLEARED,
            };
        }
    });
}

/// Deletes what `statement` selects, batch by batch.
async fn round(connections: &Connections, clock: &Clock, statement: &'static str) -> Result<()> {
    let now = i64::try_from(clock.now().as_millis()).unwrap_or(i64::MAX);
    for _ in 0..BATCHES {
        let mut writer = connections.writer().await;
        let done = sqlx::query(statement).bind(now).bind(BATCH_ROWS).execute(&mut writer.connection).await;
        drop(writer);
        if done.map_err(|error| typed(error, true))?.rows_affected() < BATCH_ROWS.unsigned_abs() {
            break;
        }
        // Writers that wait go first.
        tokio::task::yield_now().await;
    }
    Ok(())
}
