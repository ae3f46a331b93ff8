//! The invalidation log of a fake: a test decides when its changes are delivered.

use std::{
    collections::VecDeque,
    sync::{
        Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use terrace_tier::{Follower, Namespace, Notice, Op, Order, Reply, TierKey, Version};
use tokio::time::Instant;

use super::epochs::HeardEpochs;

/// The log of a [`Fake`](crate::Fake), from [`Fake::log`](crate::Fake::log). It notifies its followers
/// within the write, unless a test holds it; it sends a heartbeat when a test calls
/// [`beat`](FakeLog::beat).
///
/// ```
/// use terrace_conformance::Fake;
///
/// let redis = Fake::named("redis").with_log();
/// redis.log().hold(true); // the log stalls: it reports nothing
/// redis.log().hold(false); // it reports the changes that it held back, in order
/// redis.log().beat(); // a heartbeat: nothing else has happened until now
/// redis.log().lose(); // there was a gap
/// ```
#[derive(Default)]
pub struct FakeLog {
    state: Mutex<State>,
    /// Locked while followers are called, so that each gets the changes in order. No thread locks it
    /// while it has `state` locked.
    delivery: Mutex<()>,
    origins: AtomicU64,
}

#[derive(Default)]
struct State {
    followers: Vec<Registration>,
    waiting: VecDeque<Report>,
    held: bool,
}

/// A follower, with the epochs that its handle has heard.
struct Registration {
    origin: u64,
    namespace: String,
    follower: Weak<dyn Follower>,
    epochs: HeardEpochs,
}

/// One change, and the follower whose own write it was.
struct Report {
    origin: u64,
    namespace: String,
    notice: Notice,
}

impl FakeLog {
    /// While the log is held, it reports no change and sends no heartbeat. When the hold ends, it reports
    /// the changes that it held back.
    pub fn hold(&self, held: bool) {
        self.state.lock().held = held;
        self.deliver();
    }

    /// Sends a heartbeat to all followers: every change until now was reported. Does nothing while the
    /// log is held.
    pub fn beat(&self) {
        self.deliver();
        let _delivery = self.delivery.lock();
        if !self.state.lock().held {
            self.each(|follower| follower.heartbeat(Instant::now()));
        }
    }

    /// Sends a heartbeat although changes may still be held back, which no log may do.
    #[cfg(test)]
    pub(crate) fn beat_ahead(&self) {
        self.each(|follower| follower.heartbeat(Instant::now()));
    }

    /// Notifies all followers that the log has a gap. The changes that were held back are lost in it.
    pub fn lose(&self) {
        let _delivery = self.delivery.lock();
        let mut state = self.state.lock();
        state.waiting.clear();
        state.followers.iter().for_each(|registration| registration.epochs.forget_all());
        drop(state);
        self.each(|follower| follower.notice(&Notice::Lost));
    }

    pub(super) fn follow(&self, namespace: &str, follower: Weak<dyn Follower>, epochs: HeardEpochs) -> u64 {
        let _delivery = self.delivery.lock();
        let mut state = self.state.lock();
        let is_known =
            |known: &&Registration| known.namespace == namespace && Weak::ptr_eq(&known.follower, &follower);
        if let Some(known) = state.followers.iter().find(is_known) {
            return known.origin;
        }
        let origin = self.origins.fetch_add(1, Ordering::Relaxed) + 1;
        let (namespace, new) = (namespace.to_owned(), follower.clone());
        state.followers.push(Registration { origin, namespace, follower: new, epochs });
        let held = state.held;
        drop(state);
        if let Some(follower) = follower.upgrade() {
            follower.notice(&Notice::Lost);
            if !held {
                follower.heartbeat(Instant::now());
            }
        }
        origin
    }

    /// Appends a change. The caller has the server's data locked, so that the log has the order of the
    /// changes.
    pub(crate) fn append(&self, origin: u64, namespace: &Namespace, key: &TierKey, version: Option<Version>) {
        let (tenant, key) = (namespace.tenant.clone(), key.bytes.clone());
        self.push(origin, namespace, Notice::Key { tenant, key, version });
    }

    pub(crate) fn append_clear(&self, origin: u64, namespace: &Namespace) {
        self.push(origin, namespace, Notice::Clear { tenant: namespace.tenant.clone() });
    }

    fn push(&self, origin: u64, namespace: &Namespace, notice: Notice) {
        let report = Report { origin, namespace: namespace.name.clone(), notice };
        self.state.lock().waiting.push_back(report);
    }

    /// Reports the changes that wait, unless the log is held.
    pub(crate) fn deliver(&self) {
        let _delivery = self.delivery.lock();
        loop {
            let mut state = self.state.lock();
            let next = if state.held { None } else { state.waiting.pop_front() };
            let Some(report) = next else { return };
            if let Notice::Clear { tenant } = &report.notice {
                let epochs = state.followers.iter().map(|registration| &registration.epochs);
                epochs.for_each(|epochs| epochs.forget(&report.namespace, tenant.as_deref()));
            }
            drop(state);
            let unversioned = !matches!(report.notice, Notice::Key { version: Some(_), .. });
            for (origin, namespace, follower) in self.followers() {
                let is_own = origin == report.origin && unversioned;
                if namespace == report.namespace && !is_own {
                    follower.notice(&report.notice);
                }
            }
        }
    }

    fn each(&self, notify: impl Fn(&dyn Follower)) {
        self.followers().iter().for_each(|(_, _, follower)| notify(&**follower));
    }

    fn followers(&self) -> Vec<(u64, String, std::sync::Arc<dyn Follower>)> {
        let mut state = self.state.lock();
        state.followers.retain(|registration| registration.follower.strong_count() > 0);
        let alive = |one: &Registration| Some((one.origin, one.namespace.clone(), one.follower.upgrade()?));
        state.followers.iter().filter_map(alive).collect()
    }
}

/// The version that the log reports for an operation; `None` where the log does not report the
/// operation.
pub(crate) fn reported_version(op: &Op, reply: &Reply) -> Option<Option<Version>> {
    match (op, reply) {
        (Op::Put { order: Order::Follow(version), .. }, _) => Some(Some(*version)),
        (Op::Put { order: Order::Unfenced(_), .. }, _) => Some(None),
        (Op::Put { order: Order::Author(_) | Order::Behind { .. }, .. }, Reply::Kept(version)) => {
            Some(Some(*version))
        }
        (Op::Invalidate { version, .. }, _) => Some(*version),
        (Op::Remove { .. }, Reply::Done { version, .. }) => Some(Some(*version)),
        (Op::Expire { .. }, _) => Some(None),
        // A record that a fill created replaces an absence that other caches may keep as a copy.
        (Op::Fill { fence, .. }, Reply::Kept(version)) if fence.token == terrace_tier::Token::NONE => {
            Some(Some(*version))
        }
        _ => None,
    }
}
