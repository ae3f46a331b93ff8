//! The background cleaner, which deletes dead rows in bounded batches.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{Clock, NamespaceRegistry, Result};
use tokio::sync::Notify;

use crate::{
    connection::Connections,
    error::{During, NAME, typed},
};

/// The time between two rounds.
const PAUSE: Duration = Duration::from_secs(60);
/// The most rows of one transaction; a writer waits for at most one transaction.
const BATCH_ROWS: i64 = 500;
/// The most batches of one round; the remaining rows wait for the next round.
const BATCHES: usize = 200;

/// Deletes rows whose time to be kept has passed.
const EXPIRED: &str = "DELETE FROM cells WHERE rowid IN \
    (SELECT rowid FROM cells WHERE drop_after <= ? ORDER BY drop_after LIMIT ?)";

/// Deletes copies that a clear made dead.
const CLEARED: &str = "DELETE FROM cells WHERE rowid IN \
    (SELECT c.rowid FROM spaces s JOIN cells c ON c.space = s.id \
     WHERE s.role = 'cache' AND c.epoch <> s.epoch AND ? IS NOT NULL LIMIT ?)";

/// Starts the cleaner; it ends when the last other owner drops `connections`.
pub(crate) fn start(
    connections: &Arc<Connections>,
    clock: Clock,
    cleared: Arc<Notify>,
    namespaces: NamespaceRegistry,
) {
    let weak = Arc::downgrade(connections);
    tokio::spawn(async move {
        let mut statement = CLEARED;
        loop {
            let Some(connections) = Weak::upgrade(&weak) else { return };
            if let Err(error) = round(&connections, &clock, statement).await {
                let what = "cleaning of dead rows stopped; it continues with the next round";
                tracing::debug!(cache = %namespaces.names(), tier = NAME, %error, "{what}");
            }
            drop(connections);
            statement = tokio::select! {
                () = tokio::time::sleep(PAUSE) => EXPIRED,
                () = cleared.notified() => CLEARED,
            };
        }
    });
}

/// Deletes the rows that `statement` selects, batch by batch.
async fn round(connections: &Connections, clock: &Clock, statement: &'static str) -> Result<()> {
    let now = i64::try_from(clock.now().as_millis()).unwrap_or(i64::MAX);
    for _ in 0..BATCHES {
        let mut writer = connections.writer().await;
        let done = sqlx::query(statement).bind(now).bind(BATCH_ROWS).execute(&mut writer.connection).await;
        drop(writer);
        if done.map_err(|error| typed(error, During::Write))?.rows_affected() < BATCH_ROWS.unsigned_abs() {
            break;
        }
        // Waiting writers run before the next batch.
        tokio::task::yield_now().await;
    }
    Ok(())
}
