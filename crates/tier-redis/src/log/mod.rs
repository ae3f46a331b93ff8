//! The invalidation log of a handle: one log for all namespaces under its prefix.
//!
//! The scripts that change keys append to the log. While a follower is registered, one task for each
//! handle reads the log on a connection of its own.
//!
//! - `entry`: the bytes of an entry.
//! - `cursor`: the position of a reader, and the detection of gaps.
//! - `requests`: the commands of the reader.
//! - `reader`: the task.

mod cursor;
mod entry;
mod reader;
mod requests;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use terrace_tier::{Follower, Notice, runtime::BackgroundTask};
use tokio::time::Instant;

use entry::Entry;
pub(crate) use entry::entry_head;
pub(crate) use reader::{reads, unread};

use crate::{
    connection::ConnectionManager,
    namespace::{LogKeys, NamespaceState, NamespaceStates},
};

/// The log, shared by the tiers of a handle.
pub(crate) struct Log {
    pub(crate) keys: Arc<LogKeys>,
    manager: Arc<ConnectionManager>,
    states: Arc<Mutex<NamespaceStates>>,
    followers: Mutex<Vec<Registration>>,
    /// The task that reads the log for the followers.
    reader: BackgroundTask,
    is_followed: AtomicBool,
}

struct Registration {
    /// The number that its own tiers write into their entries; never zero.
    origin: u64,
    namespace: String,
    follower: Weak<dyn Follower>,
    /// Whether it has received the [`Notice::Lost`] with which every follower begins.
    initialized: bool,
}

/// A follower that is alive, so that it can be called without a lock.
struct ActiveFollower {
    origin: u64,
    namespace: String,
    follower: Arc<dyn Follower>,
}

impl Log {
    pub(crate) fn new(
        prefix: &str,
        manager: Arc<ConnectionManager>,
        states: Arc<Mutex<NamespaceStates>>,
    ) -> Arc<Self> {
        let keys = Arc::new(LogKeys::new(prefix));
        Arc::new(Self {
            keys,
            manager,
            states,
            followers: Mutex::default(),
            reader: BackgroundTask::default(),
            is_followed: AtomicBool::new(false),
        })
    }

    /// Registers a follower, unless it is registered. Returns its origin, which its own tiers write
    /// into their entries.
    pub(crate) fn follow(self: &Arc<Self>, namespace: &str, follower: Weak<dyn Follower>) -> u64 {
        let mut registrations = self.followers.lock();
        let is_same = |registration: &&Registration| {
            registration.namespace == namespace && Weak::ptr_eq(&registration.follower, &follower)
        };
        let known = registrations.iter().find(is_same).map(|registration| registration.origin);
        let origin = known.unwrap_or_else(|| {
            let (origin, namespace) = (fastrand::u64(1..), namespace.to_owned());
            registrations.push(Registration { origin, namespace, follower, initialized: false });
            origin
        });
        drop(registrations);
        self.is_followed.store(true, Ordering::Release);
        self.keep_reading();
        origin
    }

    /// Starts the reader, if there are followers and none runs: its runtime has ended, or there was none yet.
    pub(crate) fn keep_reading(self: &Arc<Self>) {
        if self.reader.runs() || !self.is_followed.load(Ordering::Acquire) {
            return;
        }
        // The reader takes the same lock before it notifies anyone.
        let mut registrations = self.followers.lock();
        if self.reader.start(|| reader::run(Arc::downgrade(self))) {
            // A new reader may begin at a later position in the log than the last reader reached.
            registrations.iter_mut().for_each(|registration| registration.initialized = false);
        }
    }

    /// The states of `namespace` whose copies these clears make dead.
    pub(crate) fn cleared(&self, namespace: &str, clears: &[Option<String>]) -> Vec<Arc<NamespaceState>> {
        self.states.lock().cleared(namespace, clears)
    }

    /// Whether all followers were dropped. The reader then ends, and the next follower starts another.
    fn is_unused(&self) -> bool {
        let mut registrations = self.followers.lock();
        registrations.retain(|registration| registration.follower.strong_count() > 0);
        let unused = registrations.is_empty();
        self.is_followed.store(!unused, Ordering::Release);
        unused
    }

    /// All followers that are alive. New ones first receive [`Notice::Lost`]: nothing is proven yet.
    fn active(&self) -> Vec<ActiveFollower> {
        let mut new = Vec::new();
        let mut active = Vec::new();
        for registration in self.followers.lock().iter_mut() {
            let Some(follower) = registration.follower.upgrade() else { continue };
            if !std::mem::replace(&mut registration.initialized, true) {
                new.push(Arc::clone(&follower));
            }
            let (origin, namespace) = (registration.origin, registration.namespace.clone());
            active.push(ActiveFollower { origin, namespace, follower });
        }
        new.iter().for_each(|follower| follower.notice(&Notice::Lost));
        active
    }

    fn notify(&self, entries: Vec<Bytes>) {
        let followers = self.active();
        for entry in entries {
            let Some(entry) = Entry::decode(entry) else {
                // Another version of the library wrote this entry, and it may report any change.
                self.forget_epochs();
                followers.iter().for_each(|active| active.follower.notice(&Notice::Lost));
                continue;
            };
            for notice in &entry.notices {
                if let Notice::Clear { tenant } = notice {
                    // Before the notice: a read that began after it would take a dead copy for a live one, and
                    // near would keep the copy.
                    let cleared = self.cleared(&entry.namespace, std::slice::from_ref(tenant));
                    cleared.iter().for_each(|state| state.epoch.forget());
                }
                for active in followers.iter().filter(|active| active.namespace == entry.namespace) {
                    if !entry.is_known_to(active.origin, notice) {
                        active.follower.notice(notice);
                    }
                }
            }
        }
    }

    fn heartbeat(&self, at: Instant) {
        self.active().iter().for_each(|active| active.follower.heartbeat(at));
    }

    /// Forgets the epochs of all namespaces: an entry that was not read may have reported a clear.
    fn forget_epochs(&self) {
        self.states.lock().logged().iter().for_each(|state| state.epoch.forget());
    }

    fn notify_lost(&self) {
        self.forget_epochs();
        self.active().iter().for_each(|active| active.follower.notice(&Notice::Lost));
    }
}
