//! The task that reads the log, for all followers of a handle.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{Error, ErrorKind, Finding, FindingTopic, Result, SentAt};
use tokio::time::{Instant, sleep};

use super::{
    Log,
    cursor::{Cursor, PAGE_ENTRIES},
    requests::{BLOCK_MILLIS, join, read_page},
};
use crate::{
    connection::{Connection, backoff, within},
    error::{Effect, NAME, error},
    findings::slows,
};

/// The longest time for a reply, beyond the time for which the server may hold it back. Then the reader
/// gives up the connection.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// The pause after a page with entries, so that each page of a busy log holds several.
const GATHER_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause between two attempts to read what the server refuses.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The most epochs that one call renews.
const EPOCHS_PER_CALL: usize = 256;

/// Reads the log until all followers, or the handle and its tiers, are dropped.
pub(super) async fn run(log: Weak<Log>) {
    let mut reader = LogReader { log, last: None, failures: 0 };
    loop {
        let Some(log) = reader.log_in_use() else { return };
        let connect = log.manager.connect();
        drop(log);
        let end = match connect.await {
            Ok(connection) => reader.read(connection).await,
            Err(error) => Err(error),
        };
        let Err(error) = end else { return };
        if let Some(log) = reader.log.upgrade() {
            let cache = log.manager.namespaces.names();
            tracing::debug!(%cache, tier = NAME, %error, "cannot read the invalidation log");
            if !error.is_transient() {
                log.manager.watchers.tell(&unread(&error));
            }
        }
        let pause = pause(reader.failures, error.kind());
        reader.failures = reader.failures.saturating_add(1);
        sleep(pause).await;
    }
}

/// The pause after `failures` failed attempts. What the server refuses, it refuses again.
fn pause(failures: u32, kind: ErrorKind) -> Duration {
    let pause = backoff(failures, kind);
    match kind {
        ErrorKind::Unavailable | ErrorKind::Timeout => pause,
        _ => pause.saturating_mul(2u32.saturating_pow(failures)).min(LONGEST_PAUSE),
    }
}

/// The finding of a process that cannot read the log.
pub(crate) fn unread(why: &Error) -> Finding {
    slows(
        FindingTopic::Log,
        "the invalidation log cannot be read, so that near copies are used for a second at most",
        why,
    )
}

/// Tries whether the log can be read, on a connection of its own.
///
/// # Errors
/// Why it cannot be read.
pub(crate) async fn reads(log: &Log) -> Result<()> {
    let mut connection = log.manager.connect().await?;
    let deadline = Instant::now() + Duration::from_millis(BLOCK_MILLIS) + REPLY_TIMEOUT;
    let joined = within(deadline, Effect::Read, join(&mut connection, &log.keys, None, &[])).await?;
    let page = read_page(&mut connection, &log.keys, &joined);
    within(deadline, Effect::Read, page).await.map(drop)
}

struct LogReader {
    log: Weak<Log>,
    /// The last cursor. The next connection continues from it, if the log still holds what follows.
    last: Option<Cursor>,
    failures: u32,
}

impl LogReader {
    /// The log, while it has followers. The task must not keep it alive, so the caller soon drops it.
    fn log_in_use(&self) -> Option<Arc<Log>> {
        self.log.upgrade().filter(|log| !log.is_unused())
    }

    /// Reads through one connection. `Ok` means that the log has no followers any more.
    async fn read(&mut self, mut connection: Connection) -> Result<()> {
        let mut cursor = match self.join(&mut connection, true).await? {
            Some(cursor) => cursor,
            None => return Ok(()),
        };
        loop {
            let Some(log) = self.log_in_use() else { return Ok(()) };
            let keys = Arc::clone(&log.keys);
            drop(log);
            let sent = SentAt::now();
            let deadline = sent.at() + Duration::from_millis(BLOCK_MILLIS) + REPLY_TIMEOUT;
            let page = read_page(&mut connection, &keys, &cursor);
            let page = within(deadline, Effect::Read, page).await?;
            let Some(log) = self.log_in_use() else { return Ok(()) };
            self.failures = 0;
            let advanced = cursor.advance(&page);
            let Ok(complete) = advanced else {
                log.notify_lost();
                drop(log);
                match self.join(&mut connection, false).await? {
                    Some(joined) => cursor = joined,
                    None => return Ok(()),
                }
                continue;
            };
            let count = page.entries.len();
            log.notify(page.entries.into_iter().map(|(_, entry)| entry).collect());
            // The log of another server proves nothing about the server of the reads and writes.
            match log.manager.is_same_server(&connection) {
                Some(true) if complete => log.heartbeat(sent.heartbeat_at()),
                Some(true) | None => {}
                Some(false) => {
                    let message = "the shared connection leads to another server than that of the log";
                    return Err(error(ErrorKind::Unavailable, message));
                }
            }
            drop(log);
            self.last = Some(cursor.clone());
            if (1..PAGE_ENTRIES).contains(&count) {
                sleep(GATHER_PAUSE).await;
            }
        }
    }

    /// Joins the log at the last cursor, if `resume` and if the log still holds what follows. Otherwise
    /// joins it at its end, and then no older copy is proven.
    async fn join(&mut self, connection: &mut Connection, resume: bool) -> Result<Option<Cursor>> {
        let Some(log) = self.log_in_use() else { return Ok(None) };
        let (keys, states) = (Arc::clone(&log.keys), log.states.lock().logged());
        drop(log);
        let epochs: BTreeSet<&str> = states.iter().map(|state| state.layout.widest_epoch()).collect();
        let epochs: Vec<&str> = epochs.into_iter().collect();
        let mut pages = epochs.chunks(EPOCHS_PER_CALL);
        let last = self.last.as_ref();
        let mut call = async |page: &[&str]| {
            let joined = join(connection, &keys, last, page);
            within(Instant::now() + REPLY_TIMEOUT, Effect::Read, joined).await
        };
        let joined = call(pages.next().unwrap_or_default()).await?;
        let same_log = last.is_none_or(|last| last.id == joined.id);
        if !same_log {
            for page in pages {
                call(page).await?;
            }
            // The calls renewed these epochs on the server.
            states.iter().for_each(|state| state.epoch.forget());
        }
        let Some(log) = self.log_in_use() else { return Ok(None) };
        let cursor = match self.last.take() {
            Some(last) if resume && same_log => last,
            before => {
                if before.is_some() {
                    let cache = log.manager.namespaces.names();
                    tracing::warn!(%cache, tier = NAME, "the invalidation log has a gap; near copies are dropped");
                    log.notify_lost();
                }
                joined
            }
        };
        self.last = Some(cursor.clone());
        Ok(Some(cursor))
    }
}
