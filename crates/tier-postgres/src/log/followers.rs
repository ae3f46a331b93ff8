//! The followers of the outbox of a handle.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use terrace_tier::{Follower, Notice, runtime::BackgroundTask};
use tokio::sync::Notify;

/// The followers, and the task that polls for them.
#[derive(Default)]
pub(crate) struct Followers {
    subscriptions: Mutex<Vec<Subscription>>,
    poller: BackgroundTask,
    is_followed: AtomicBool,
    /// Wakes the task that polls, while it polls seldom.
    pub(crate) wake: Arc<Notify>,
}

/// A follower of one namespace.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) namespace: String,
    pub(crate) follower: Weak<dyn Follower>,
    /// The follower was notified that none of its earlier copies is proven.
    loss_reported: bool,
}

impl Followers {
    /// Adds a follower, unless it follows already.
    pub(crate) fn add(&self, namespace: &str, follower: Weak<dyn Follower>) {
        let mut subscriptions = self.subscriptions.lock();
        let same = |other: &Subscription| other.namespace == namespace && other.follower.ptr_eq(&follower);
        if !subscriptions.iter().any(same) {
            let namespace = namespace.to_owned();
            subscriptions.push(Subscription { namespace, follower, loss_reported: false });
            self.wake.notify_one();
        }
        self.is_followed.store(true, Ordering::Release);
    }

    /// Starts the task that polls, if there are followers and none runs: its runtime has ended, or there was
    /// none yet.
    pub(crate) fn keep_polling<F>(&self, poll: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.poller.runs() || !self.is_followed.load(Ordering::Acquire) {
            return;
        }
        // The new task takes the same lock first. Changes before its first poll are not reported.
        let mut subscriptions = self.subscriptions.lock();
        if self.poller.start(poll) {
            subscriptions.iter_mut().for_each(|subscription| subscription.loss_reported = false);
        }
    }

    /// The names of the caches that follow, with commas between them.
    pub(crate) fn names(&self) -> String {
        let subscriptions = self.subscriptions.lock();
        let names: BTreeSet<&str> = subscriptions.iter().map(|one| &*one.namespace).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Whether a follower is left. If not, the calling task must end, and the next follower starts
    /// another.
    pub(crate) fn any_left(&self) -> bool {
        let mut subscriptions = self.subscriptions.lock();
        subscriptions.retain(|subscription| subscription.follower.strong_count() > 0);
        self.is_followed.store(!subscriptions.is_empty(), Ordering::Release);
        !subscriptions.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.subscriptions.lock().len()
    }

    /// The subscriptions to poll for. New followers are first notified that nothing is proven yet: a
    /// change from now on lies behind the position of the next read.
    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        let mut kept = self.subscriptions.lock();
        let subscriptions = kept.clone();
        kept.iter_mut().for_each(|subscription| subscription.loss_reported = true);
        drop(kept);
        let new = subscriptions.iter().filter(|subscription| !subscription.loss_reported);
        new.for_each(|subscription| subscription.notify(&Notice::Lost));
        subscriptions
    }

    /// Makes the next call of [`subscriptions`](Self::subscriptions) report a loss to all followers:
    /// none of their copies is proven any more.
    pub(crate) fn report_loss_again(&self) {
        self.subscriptions.lock().iter_mut().for_each(|subscription| subscription.loss_reported = false);
    }
}

impl Subscription {
    pub(crate) fn change(&self, number: u64, notice: &Notice) {
        if let Some(follower) = self.follower.upgrade() {
            follower.change(number, notice);
        }
    }

    pub(crate) fn notify(&self, notice: &Notice) {
        if let Some(follower) = self.follower.upgrade() {
            follower.notice(notice);
        }
    }
}
