//! By its handle a cache wakes its relay, and learns whether a relay is running.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{Error, Follower, Notice, Result};

/// How long one call of [`RelayHandle::started`] waits.
const START_TIMEOUT: Duration = Duration::from_millis(500);

/// Wakes the relay of a cache when its log reports a change. The cache owns the handle, and the relay's
/// task ends after the cache was dropped.
#[derive(Default)]
pub(crate) struct RelayHandle {
    changed: Notify,
    started: AtomicBool,
    on_start: Notify,
    /// The error of the last step, if waiting does not resolve it.
    failure: Mutex<Option<Error>>,
}

impl Follower for RelayHandle {
    fn notice(&self, _notice: &Notice) {
        self.changed.notify_one();
    }

    fn heartbeat(&self, _at: Instant) {}
}

impl RelayHandle {
    /// Waits a short time until a relay runs, in this process or another. The result says whether a
    /// relay runs.
    ///
    /// # Errors
    /// The call fails with the error of the last step of this process's relay, if waiting does not
    /// resolve it.
    pub(crate) async fn started(&self) -> Result<bool> {
        let started = self.on_start.notified();
        if self.started.load(Ordering::Acquire) || timeout(START_TIMEOUT, started).await.is_ok() {
            return Ok(true);
        }
        self.failure.lock().clone().map_or(Ok(false), Err)
    }

    /// Waits until the log reports a change.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Keeps the error of a step if waiting does not resolve it, and logs the first such error in a row.
    pub(super) fn record(&self, step: &Result<()>, cache: &str, tier: &str) {
        let lasting = step.as_ref().err().filter(|error| !error.is_transient());
        let mut failure = self.failure.lock();
        if let (Some(error), None) = (lasting, &*failure) {
            tracing::warn!(cache, tier, %error, "the relay cannot go on; it tries again");
        }
        *failure = lasting.cloned();
    }

    pub(super) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
        self.on_start.notify_waiters();
    }
}
