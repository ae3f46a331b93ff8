//! The task that reads the log, for all followers of a handle.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{Result, SentAt};
use tokio::time::{Instant, sleep};

use super::{
    Log,
    cursor::{Cursor, ROUND},
    round::{BLOCK_MILLIS, ask, join},
};
use crate::{
    fault::Effect,
    link::{backoff, within},
    live::Live,
    space::NamespaceState,
};

/// How long an answer may take that the server does not hold back; then the connection is given up.
const ANSWER: Duration = Duration::from_millis(500);

/// Between two rounds that brought something, so that a busy log costs its followers rounds of
/// several entries each.
const GATHER: Duration = Duration::from_millis(2);

/// Epochs renewed in one call.
const PAGE: usize = 256;

/// Reads until nobody follows, or nobody holds the handle any more.
pub(super) async fn run(log: Weak<Log>) {
    let mut reader = Reader { log, known: None, failures: 0 };
    loop {
        let Some(log) = reader.audience() else { return };
        let dial = log.link.dial();
        drop(log);
        let ended = match dial.await {
            Ok(live) => reader.read(live).await,
            Err(error) => Err(error),
        };
        let Err(error) = ended else { return };
        tracing::debug!(%error, "the invalidation log is not heard");
        let pause = backoff(reader.failures, error.kind());
        reader.failures = reader.failures.saturating_add(1);
        sleep(pause).await;
    }
}

struct Reader {
    log: Weak<Log>,
    /// Where the last connection was; the next one goes on from there if that still holds.
    known: Option<Cursor>,
    failures: u32,
}

impl Reader {
    /// The log, while anyone listens. Held for moments only: the task must not keep it alive.
    fn audience(&self) -> Option<Arc<Log>> {
        self.log.upgrade().filter(|log| !log.is_deserted())
    }

    /// Reads through one connection; `Ok` when nobody listens any more.
    async fn read(&mut self, mut live: Live) -> Result<()> {
        let mut cursor = match self.join(&mut live, true).await? {
            Some(cursor) => cursor,
            None => return Ok(()),
        };
        loop {
            let Some(log) = self.audience() else { return Ok(()) };
            let keys = Arc::clone(&log.keys);
            drop(log);
            let sent = SentAt::now();
            let deadline = sent.at() + Duration::from_millis(BLOCK_MILLIS) + ANSWER;
            let round = within(deadline, Effect::Read, ask(&mut live.connection, &keys, &cursor)).await?;
            let Some(log) = self.audience() else { return Ok(()) };
            self.failures = 0;
            let advanced = cursor.advance(&round);
            let Ok(complete) = advanced else {
                log.lost();
                drop(log);
                match self.join(&mut live, false).await? {
                    Some(joined) => cursor = joined,
                    None => return Ok(()),
                }
                continue;
            };
            let count = round.entries.len();
            log.tell(round.entries.into_iter().map(|(_, entry)| entry).collect());
            // What another server says proves nothing about the one that is read and written.
            let same_server = log.link.run_id().is_none_or(|run_id| live.run_id.as_ref() == Some(&run_id));
            if complete && same_server {
                log.heartbeat(sent.heartbeat_at());
            }
            drop(log);
            self.known = Some(cursor.clone());
            if (1..ROUND).contains(&count) {
                sleep(GATHER).await;
            }
        }
    }

    /// Joins the log: where this follower left it if `resume` and if that is still possible, else
    /// at its end, and then nothing that was kept before is proven.
    async fn join(&mut self, live: &mut Live, resume: bool) -> Result<Option<Cursor>> {
        let Some(log) = self.audience() else { return Ok(None) };
        let (keys, spaces) = (Arc::clone(&log.keys), log.states.lock().fenced());
        drop(log);
        let epochs: BTreeSet<&str> = spaces.iter().map(|space| space.widest_epoch()).collect();
        let epochs: Vec<&str> = epochs.into_iter().collect();
        let mut pages = epochs.chunks(PAGE);
        let known = self.known.as_ref();
        let mut call = async |page: &[&str]| {
            let joined = join(&mut live.connection, &keys, known, page);
            within(Instant::now() + ANSWER, Effect::Read, joined).await
        };
        let joined = call(pages.next().unwrap_or_default()).await?;
        let went_on = known.is_none_or(|known| known.id == joined.id);
        if !went_on {
            for page in pages {
                call(page).await?;
            }
            forget_epochs(&spaces);
        }
        let Some(log) = self.audience() else { return Ok(None) };
        let cursor = match self.known.take() {
            Some(known) if resume && went_on => known,
            before => {
                if before.is_some() {
                    tracing::warn!("the invalidation log has a gap; near copies are dropped");
                    log.lost();
                }
                joined
            }
        };
        self.known = Some(cursor.clone());
        Ok(Some(cursor))
    }
}

/// They were renewed behind the tiers' back.
fn forget_epochs(spaces: &[Arc<NamespaceState>]) {
    for space in spaces {
        space.heard.forget();
    }
}
