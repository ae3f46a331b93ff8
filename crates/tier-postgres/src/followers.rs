//! Who follows the outbox of a handle.

use std::sync::Weak;

use parking_lot::Mutex;
use terrace_tier::{Follower, Notice};
use tokio::task::JoinHandle;

/// Those who follow, and the task that reads for them.
#[derive(Default)]
pub(crate) struct Followers(Mutex<State>);

#[derive(Default)]
struct State {
    following: Vec<Following>,
    /// The task that polls for them; it may end with its runtime.
    poller: Option<JoinHandle<()>>,
}

/// One of them, for one namespace.
#[derive(Clone)]
pub(crate) struct Following {
    pub(crate) namespace: String,
    pub(crate) follower: Weak<dyn Follower>,
    /// It was told that what it kept before is not proven.
    warned: bool,
}

impl Followers {
    /// Adds a follower, unless it follows already; `polls` starts the task that polls, unless one runs.
    pub(crate) fn add(
        &self,
        namespace: &str,
        follower: Weak<dyn Follower>,
        polls: impl FnOnce() -> JoinHandle<()>,
    ) {
        let mut state = self.0.lock();
        let known = |known: &Following| known.namespace == namespace && known.follower.ptr_eq(&follower);
        if !state.following.iter().any(known) {
            state.following.push(Following { namespace: namespace.to_owned(), follower, warned: false });
        }
        if state.poller.as_ref().is_none_or(JoinHandle::is_finished) {
            state.poller = Some(polls());
        }
    }

    /// Whether anyone follows; if not, the task that asks is to end, and the next follower starts
    /// another.
    pub(crate) fn are_there(&self) -> bool {
        let mut state = self.0.lock();
        state.following.retain(|following| following.follower.strong_count() > 0);
        if state.following.is_empty() {
            state.poller = None;
        }
        state.poller.is_some()
    }

    /// Those who follow, new ones told that nothing is proven yet: whatever changes from now on is
    /// behind the position that is read from next.
    pub(crate) fn listening(&self) -> Vec<Following> {
        let mut state = self.0.lock();
        let listening = state.following.clone();
        state.following.iter_mut().for_each(|following| following.warned = true);
        drop(state);
        listening.iter().filter(|following| !following.warned).for_each(|new| new.tell(&Notice::Lost));
        listening
    }

    /// Nothing that was kept before is proven any more.
    pub(crate) fn warn_again(&self) {
        self.0.lock().following.iter_mut().for_each(|following| following.warned = false);
    }
}

impl Following {
    pub(crate) fn tell(&self, notice: &Notice) {
        if let Some(follower) = self.follower.upgrade() {
            follower.notice(notice);
        }
    }
}
