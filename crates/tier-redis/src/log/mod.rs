//! The invalidation log of a handle: one for all namespaces under its prefix.
//!
//! Writes append to it in their own scripts; one task a process and handle reads it, on a
//! connection of its own, while anyone follows.

mod cursor;
mod entry;
mod follow;
mod round;

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use terrace_tier::{Follower, Notice};
use tokio::{task::JoinHandle, time::Instant};

use entry::Entry;
pub(crate) use entry::note;

use crate::{
    link::Link,
    space::{NamespaceState, States},
};

/// The keys of the log.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) head: Bytes,
    pub(crate) entries: Bytes,
}

/// The log, as the tiers of a handle share it.
pub(crate) struct Log {
    pub(crate) keys: Arc<Keys>,
    link: Arc<Link>,
    states: Arc<Mutex<States>>,
    audience: Mutex<Audience>,
}

/// Who follows, and the task that reads for them.
#[derive(Default)]
struct Audience {
    followers: Vec<Listener>,
    reader: Option<JoinHandle<()>>,
}

struct Listener {
    /// Stands in the entries of its own tiers; never zero.
    origin: u64,
    namespace: String,
    follower: Weak<dyn Follower>,
    /// Whether it was told that nothing is proven yet.
    begun: bool,
}

/// A listener that is alive, to be called without a lock.
struct Ear {
    origin: u64,
    namespace: String,
    follower: Arc<dyn Follower>,
}

impl Log {
    pub(crate) fn new(prefix: &str, link: Arc<Link>, states: Arc<Mutex<States>>) -> Arc<Self> {
        let keys =
            Keys { head: format!("{prefix}:$log-head").into(), entries: format!("{prefix}:$log").into() };
        Arc::new(Self { keys: Arc::new(keys), link, states, audience: Mutex::default() })
    }

    /// Adds a follower, unless it is one already; what its tiers write is marked with the answer.
    pub(crate) fn follow(self: &Arc<Self>, namespace: &str, follower: Weak<dyn Follower>) -> u64 {
        let mut audience = self.audience.lock();
        let known = |listener: &&Listener| {
            listener.namespace == namespace && Weak::ptr_eq(&listener.follower, &follower)
        };
        let known = audience.followers.iter().find(known).map(|listener| listener.origin);
        let origin = known.unwrap_or_else(|| {
            let (origin, namespace) = (fastrand::u64(1..), namespace.to_owned());
            audience.followers.push(Listener { origin, namespace, follower, begun: false });
            origin
        });
        if audience.reader.as_ref().is_none_or(JoinHandle::is_finished) {
            // Another task may begin elsewhere in the log than the one before it has ended.
            audience.followers.iter_mut().for_each(|listener| listener.begun = false);
            audience.reader = Some(tokio::spawn(follow::run(Arc::downgrade(self))));
        }
        origin
    }

    /// Those in use of a namespace whose copies these clears make dead.
    pub(crate) fn cleared(&self, namespace: &str, clears: &[Option<String>]) -> Vec<Arc<NamespaceState>> {
        self.states.lock().cleared(namespace, clears)
    }

    /// Whether nobody follows any more: the task then ends, and the next follower starts another.
    fn is_deserted(&self) -> bool {
        let mut audience = self.audience.lock();
        audience.followers.retain(|listener| listener.follower.strong_count() > 0);
        let deserted = audience.followers.is_empty();
        if deserted {
            audience.reader = None;
        }
        deserted
    }

    /// All that follow now; who is new among them learns that nothing is proven yet.
    fn ears(&self) -> Vec<Ear> {
        let mut new = Vec::new();
        let mut ears = Vec::new();
        for listener in &mut self.audience.lock().followers {
            let Some(follower) = listener.follower.upgrade() else { continue };
            if !std::mem::replace(&mut listener.begun, true) {
                new.push(Arc::clone(&follower));
            }
            let (origin, namespace) = (listener.origin, listener.namespace.clone());
            ears.push(Ear { origin, namespace, follower });
        }
        new.iter().for_each(|follower| follower.notice(&Notice::Lost));
        ears
    }

    fn tell(&self, entries: Vec<Bytes>) {
        let ears = self.ears();
        for entry in entries {
            let Some(entry) = Entry::read(entry) else {
                // Another version of the library wrote it: what it says is not known.
                ears.iter().for_each(|ear| ear.follower.notice(&Notice::Lost));
                continue;
            };
            for ear in ears.iter().filter(|ear| ear.namespace == entry.namespace) {
                if !entry.is_known_to(ear.origin) {
                    ear.follower.notice(&entry.notice);
                }
            }
        }
    }

    fn heartbeat(&self, at: Instant) {
        self.ears().iter().for_each(|ear| ear.follower.heartbeat(at));
    }

    fn lost(&self) {
        self.ears().iter().for_each(|ear| ear.follower.notice(&Notice::Lost));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(reader) = &self.audience.get_mut().reader {
            reader.abort();
        }
    }
}
