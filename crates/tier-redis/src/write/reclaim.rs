//! Frees the memory of the cells that a `clear` has made dead.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use redis::{Cmd, Value};
use terrace_tier::Result;
use tokio::time::Instant;

use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, NAME, server_error, unexpected_reply},
    namespace::NamespaceState,
    scripts::{Call, Script},
};

/// The keys that one SCAN looks at, and about the most that one script unlinks.
const PAGE: usize = 512;
const PAGE_BUDGET: Duration = Duration::from_secs(1);

/// Starts a sweep in the background. A sweep that already runs makes another pass instead.
///
/// A sweep stops at the first error. The dead cells then expire, or the next clear frees them.
pub(super) fn reclaim(manager: &Arc<ConnectionManager>, state: &Arc<NamespaceState>) {
    if state.unreclaimed_clears.fetch_add(1, Ordering::AcqRel) > 0 {
        return;
    }
    let sweep = Sweep { manager: Arc::downgrade(manager), state: Arc::downgrade(state), finished: false };
    tokio::spawn(sweep.run());
}

struct Sweep {
    manager: Weak<ConnectionManager>,
    state: Weak<NamespaceState>,
    finished: bool,
}

impl Sweep {
    async fn run(mut self) {
        let mut cursor = 0;
        let mut clears_at_start = 0;
        // The sweep holds strong references for one page at a time, so it ends with its last tier.
        while let (Some(manager), Some(state)) = (self.manager.upgrade(), self.state.upgrade()) {
            let clears = &state.unreclaimed_clears;
            if cursor == 0 {
                clears_at_start = clears.load(Ordering::Acquire);
            }
            match free_page(&manager, &state, cursor).await {
                Ok(next) => cursor = next,
                Err(error) => {
                    let cache = manager.namespaces.names();
                    let what = "cannot free the memory of dead cells; they expire later";
                    tracing::debug!(%cache, tier = NAME, %error, "{what}");
                    return;
                }
            }
            if cursor == 0
                && clears.compare_exchange(clears_at_start, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                self.finished = true;
                return;
            }
        }
    }
}

impl Drop for Sweep {
    /// Lets the next clear start a sweep after this one failed or its runtime ended.
    fn drop(&mut self) {
        if let Some(state) = self.state.upgrade().filter(|_| !self.finished) {
            state.unreclaimed_clears.store(0, Ordering::Release);
        }
    }
}

async fn free_page(manager: &Arc<ConnectionManager>, state: &NamespaceState, cursor: u64) -> Result<u64> {
    let mut scan = Cmd::new();
    scan.arg("SCAN").arg(cursor).arg("MATCH").arg(state.layout.cells_pattern()).arg("COUNT").arg(PAGE);
    let deadline = Instant::now() + PAGE_BUDGET;
    let page = within(deadline, Effect::Read, manager.send(&scan, Effect::Read)).await?;
    let (next, cells): (u64, Vec<Vec<u8>>) = match page {
        Value::ServerError(answer) => return Err(server_error(&answer)),
        page => redis::from_redis_value(page).map_err(|_| unexpected_reply())?,
    };
    if !cells.is_empty() {
        let mut keys = state.layout.epochs().to_vec();
        keys.extend(cells.into_iter().map(bytes::Bytes::from));
        let call = Call { script: Script::Reclaim, keys, args: Vec::new() };
        within(deadline, Effect::Read, call.run(manager, Effect::Read)).await?;
    }
    Ok(next)
}
