//! By its handle a cache wakes its relay, and learns whether a relay is running.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    /// Whether this process's relay leads. Only a leader acts on what the log reports.
    leads: AtomicBool,
    /// What wakes the log, while it is suspended.
    wake: Mutex<Option<Arc<Notify>>>,
    /// When the last step of this relay as the leader began.
    last_step: Mutex<Option<Instant>>,
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

    fn is_unused(&self) -> bool {
        !self.leads.load(Ordering::Acquire)
    }

    fn suspend(&self, wake: &Arc<Notify>) {
        *self.wake.lock() = Some(Arc::clone(wake));
        if self.leads.load(Ordering::Acquire) {
            self.wake_log();
        }
    }
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

    /// Records whether this relay leads. The log of one that begins to lead is read again at once.
    pub(super) fn set_leads(&self, leads: bool) {
        if leads && !self.leads.swap(leads, Ordering::AcqRel) {
            self.wake_log();
        }
        self.leads.store(leads, Ordering::Release);
    }

    /// Records a step that succeeded and began then. `leads` says whether this relay leads.
    pub(super) fn stepped(&self, began: Instant, leads: bool) {
        *self.last_step.lock() = leads.then_some(began);
    }

    /// The time since the last step of this relay that succeeded, if it led.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        self.last_step.lock().map(|began| now.duration_since(began))
    }

    fn wake_log(&self) {
        if let Some(wake) = self.wake.lock().take() {
            wake.notify_one();
        }
    }

    pub(super) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
        self.on_start.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_a_relay_that_leads_needs_the_log_and_one_that_begins_to_lead_wakes_it() {
        let (handle, wake) = (RelayHandle::default(), Arc::new(Notify::new()));
        let woken = || wake.notified().now_or_never().is_some();
        assert!(handle.is_unused());
        handle.suspend(&wake);
        handle.set_leads(false);
        assert!(!woken());
        handle.set_leads(true);
        assert!(woken() && !handle.is_unused());
        // It began to lead while the log was about to be suspended.
        handle.suspend(&wake);
        assert!(woken());
    }
}
