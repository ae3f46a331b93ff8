//! A lost tier is probed without traffic, so that its return is known before the next read.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt;
use terrace_tier::Tier;
use tokio::time::{sleep, timeout};

use super::slot::TierShared;

/// The first pause between two probes. It doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a probe waits for its answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// A probe that runs. Where it is dropped with its runtime, it says so.
pub(super) struct Probing {
    pub(super) shared: Weak<TierShared>,
    pub(super) ended: bool,
}

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade().filter(|_| !self.ended) {
            shared.lost_probe();
        }
    }
}

/// Probes the tier until it answers, or until its cache is dropped. The tier of `probing` is lost.
pub(super) async fn probe(mut probing: Probing, tier: Arc<dyn Tier>) {
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        if probing.shared.strong_count() == 0 {
            return;
        }
        // A tier may panic, and has to be probed all the same.
        let ping = AssertUnwindSafe(tier.ping()).catch_unwind();
        let answered = matches!(timeout(PATIENCE, ping).await, Ok(Ok(Ok(()))));
        let Some(shared) = probing.shared.upgrade() else { return };
        if answered {
            shared.answered();
        }
        if shared.ends_probe() {
            probing.ended = true;
            return;
        }
    }
}
