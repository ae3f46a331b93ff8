//! Frees the memory of the cells that a `clear` has made dead.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use redis::{Cmd, Value};
use terrace_tier::Result;
use tokio::time::Instant;

use crate::{
    fault::{self, Effect},
    link::{Link, within},
    script::{Call, Name},
    send,
    space::NamespaceState,
};

/// Keys that one SCAN looks at, and about the most that one script unlinks.
const PAGE: usize = 512;
const PAGE_BUDGET: Duration = Duration::from_secs(1);

/// Starts a sweep in the background, or has the one under way go round again.
///
/// A sweep that fails stops: the dead cells then go with their time to live, or with the next clear.
pub(crate) fn start(link: &Arc<Link>, space: &Arc<NamespaceState>) {
    if space.reclaim.fetch_add(1, Ordering::AcqRel) > 0 {
        return;
    }
    let sweep = Sweep { link: Arc::downgrade(link), space: Arc::downgrade(space), over: false };
    tokio::spawn(sweep.run());
}

struct Sweep {
    link: Weak<Link>,
    space: Weak<NamespaceState>,
    over: bool,
}

impl Sweep {
    async fn run(mut self) {
        let mut cursor = 0;
        let mut round = 0;
        // Held for one page at a time: a sweep ends with its last tier.
        while let (Some(link), Some(space)) = (self.link.upgrade(), self.space.upgrade()) {
            let pending = &space.reclaim;
            if cursor == 0 {
                round = pending.load(Ordering::Acquire);
            }
            match free_page(&link, &space, cursor).await {
                Ok(next) => cursor = next,
                Err(error) => {
                    tracing::debug!(%error, "dead cells are left to expire");
                    return;
                }
            }
            if cursor == 0 && pending.compare_exchange(round, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                self.over = true;
                return;
            }
        }
    }
}

impl Drop for Sweep {
    /// A sweep that failed, or ended with its runtime, makes room for the next.
    fn drop(&mut self) {
        if let Some(space) = self.space.upgrade().filter(|_| !self.over) {
            space.reclaim.store(0, Ordering::Release);
        }
    }
}

async fn free_page(link: &Arc<Link>, space: &NamespaceState, cursor: u64) -> Result<u64> {
    let mut scan = Cmd::new();
    scan.arg("SCAN").arg(cursor).arg("MATCH").arg(space.layout.cells_pattern()).arg("COUNT").arg(PAGE);
    let deadline = Instant::now() + PAGE_BUDGET;
    let page = within(deadline, Effect::Read, link.send(&scan, Effect::Read)).await?;
    let (next, keys): (u64, Vec<Vec<u8>>) = match page {
        Value::ServerError(answer) => return Err(fault::of_server(&answer)),
        page => redis::from_redis_value(page).map_err(|_| fault::unreadable())?,
    };
    if !keys.is_empty() {
        let mut names = space.layout.epochs().to_vec();
        names.extend(keys.into_iter().map(bytes::Bytes::from));
        let call = Call { script: Name::Reclaim, keys: names, args: Vec::new() };
        within(deadline, Effect::Read, send::run(link, &call, Effect::Read)).await?;
    }
    Ok(next)
}
