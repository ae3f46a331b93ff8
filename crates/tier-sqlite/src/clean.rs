//! The background cleaner, which deletes dead rows in bounded batches.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_timer::Delay;
use terrace_tier::{Clock, NamespaceRegistry, Result};
use tokio::sync::Notify;

use crate::{
    connection::Connections,
    error::{During, NAME, typed},
};

/// The time between two rounds that leave no dead row.
const PAUSE: Duration = Duration::from_secs(60);
/// The pause after a round that left some.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// The most rows of one transaction; a writer waits for at most one transaction.
const BATCH_ROWS: i64 = 500;
/// The most batches of one round.
const BATCHES: usize = 200;

/// Deletes rows whose time to be kept has passed.
const EXPIRED: &str = "DELETE FROM cells WHERE rowid IN \
    (SELECT rowid FROM cells WHERE drop_after <= ? ORDER BY drop_after LIMIT ?)";

/// Deletes copies that a clear made dead.
const CLEARED: &str = "DELETE FROM cells WHERE rowid IN \
    (SELECT c.rowid FROM spaces s JOIN cells c ON c.space = s.id \
     WHERE s.role = 'cache' AND c.epoch <> s.epoch AND ? IS NOT NULL LIMIT ?)";

/// Cleans until the last other owner drops `connections`. The pauses are not tokio's, whose clock a test may
/// have paused.
pub(crate) async fn run(
    connections: Weak<Connections>,
    clock: Clock,
    cleared: Arc<Notify>,
    namespaces: NamespaceRegistry,
) {
    // An earlier run of the program may have left rows that a clear made dead.
    let mut is_cleared = false;
    loop {
        let Some(connections) = Weak::upgrade(&connections) else { return };
        let pause = match clean(&connections, &clock, &mut is_cleared).await {
            Ok(true) => PAUSE,
            Ok(false) => SHORT_PAUSE,
            Err(error) => {
                let what = "cleaning of dead rows stopped; it continues with the next round";
                tracing::debug!(cache = %namespaces.names(), tier = NAME, %error, "{what}");
                PAUSE
            }
        };
        drop(connections);
        tokio::select! {
            () = Delay::new(pause) => {}
            () = cleared.notified() => is_cleared = false,
        }
    }
}

/// One round. The result says whether no dead row is left; `is_cleared`, whether the last clear left none.
async fn clean(connections: &Connections, clock: &Clock, is_cleared: &mut bool) -> Result<bool> {
    if !*is_cleared {
        *is_cleared = delete(connections, clock, CLEARED).await?;
    }
    Ok(delete(connections, clock, EXPIRED).await? && *is_cleared)
}

/// Deletes the rows that `statement` selects, batch by batch. The result says whether none is left.
async fn delete(connections: &Connections, clock: &Clock, statement: &'static str) -> Result<bool> {
    let now = i64::try_from(clock.now().as_millis()).unwrap_or(i64::MAX);
    for _ in 0..BATCHES {
        let mut writer = connections.writer().await;
        let done = sqlx::query(statement).bind(now).bind(BATCH_ROWS).execute(&mut writer.connection).await;
        drop(writer);
        if done.map_err(|error| typed(error, During::Write))?.rows_affected() < BATCH_ROWS.unsigned_abs() {
            return Ok(true);
        }
        // Waiting writers run before the next batch.
        tokio::task::yield_now().await;
    }
    Ok(false)
}
