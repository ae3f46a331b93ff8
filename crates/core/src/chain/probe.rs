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

/// Probes the tier until it answers, or until its cache is dropped. The tier of `shared` is lost.
pub(super) async fn probe(shared: Weak<TierShared>, tier: Arc<dyn Tier>) {
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        if shared.strong_count() == 0 {
            return;
        }
        // A tier may panic, and has to be probed all the same.
        let ping = AssertUnwindSafe(tier.ping()).catch_unwind();
        let answered = matches!(timeout(PATIENCE, ping).await, Ok(Ok(Ok(()))));
        let Some(shared) = shared.upgrade() else { return };
        if answered {
            shared.answered();
        }
        if shared.ends_probe() {
            return;
        }
    }
}
