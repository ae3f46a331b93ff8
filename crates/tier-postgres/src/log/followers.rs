//! The followers of the outbox of a handle.

use std::{collections::BTreeSet, sync::Weak};

use parking_lot::Mutex;
use terrace_tier::{Follower, Notice};
use tokio::task::JoinHandle;

/// The followers, and the task that polls for them.
#[derive(Default)]
pub(crate) struct Followers(Mutex<State>);

#[derive(Default)]
struct State {
    subscriptions: Vec<Subscription>,
    /// The task that polls. It ends with its runtime, and the next follower starts another.
    poller: Option<JoinHandle<()>>,
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
    /// Adds a follower, unless it follows already. `start_poller` starts the task that polls, unless one
    /// runs.
    pub(crate) fn add(
        &self,
        namespace: &str,
        follower: Weak<dyn Follower>,
        start_poller: impl FnOnce() -> JoinHandle<()>,
    ) {
        let mut state = self.0.lock();
        let same = |other: &Subscription| other.namespace == namespace && other.follower.ptr_eq(&follower);
        if !state.subscriptions.iter().any(same) {
            let namespace = namespace.to_owned();
            state.subscriptions.push(Subscription { namespace, follower, loss_reported: false });
        }
        if state.poller.as_ref().is_none_or(JoinHandle::is_finished) {
            state.poller = Some(start_poller());
        }
    }

    /// The names of the caches that follow, with commas between them.
    pub(crate) fn names(&self) -> String {
        let state = self.0.lock();
        let names: BTreeSet<&str> = state.subscriptions.iter().map(|one| &*one.namespace).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Whether a follower is left. If not, the calling task must end, and the next follower starts
    /// another.
    pub(crate) fn any_left(&self) -> bool {
        let mut state = self.0.lock();
        state.subscriptions.retain(|subscription| subscription.follower.strong_count() > 0);
        if state.subscriptions.is_empty() {
            state.poller = None;
        }
        state.poller.is_some()
    }

    /// The subscriptions to poll for. New followers are first notified that nothing is proven yet: a
    /// change from now on lies behind the position of the next read.
    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        let mut state = self.0.lock();
        let subscriptions = state.subscriptions.clone();
        state.subscriptions.iter_mut().for_each(|subscription| subscription.loss_reported = true);
        drop(state);
        let new = subscriptions.iter().filter(|subscription| !subscription.loss_reported);
        new.for_each(|subscription| subscription.notify(&Notice::Lost));
        subscriptions
    }

    /// Makes the next call of [`subscriptions`](Self::subscriptions) report a loss to all followers:
    /// none of their copies is proven any more.
    pub(crate) fn report_loss_again(&self) {
        self.0.lock().subscriptions.iter_mut().for_each(|subscription| subscription.loss_reported = false);
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
