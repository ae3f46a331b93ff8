//! The invalidation log of a fake: a test decides when it is delivered.

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

/// The log of a [`Fake`](crate::Fake), from [`Fake::log`](crate::Fake::log). It tells its followers
/// at once, within the write, unless a test holds it; it is heard when a test says so.
///
/// ```
/// use terrace_conformance::Fake;
///
/// let redis = Fake::named("redis").with_log();
/// redis.log().hold(true); // the log stalls: nothing is told
/// redis.log().hold(false); // what was held back is told, in order
/// redis.log().beat(); // nothing else has happened until now
/// redis.log().lose(); // there was a gap
/// ```
#[derive(Default)]
pub struct FakeLog {
    state: Mutex<State>,
    /// Held while followers are called, so that they are in order; never with the state.
    delivery: Mutex<()>,
    origins: AtomicU64,
}

#[derive(Default)]
struct State {
    followers: Vec<(u64, String, Weak<dyn Follower>)>,
    waiting: VecDeque<Told>,
    held: bool,
}

struct Told {
    origin: u64,
    namespace: String,
    notice: Notice,
}

impl FakeLog {
    /// While held, nothing is told and nothing heard; what was held back is told when it ends.
    pub fn hold(&self, held: bool) {
        self.state.lock().held = held;
        self.deliver();
    }

    /// Tells all followers that everything until now was told; not while held.
    pub fn beat(&self) {
        self.deliver();
        let _delivery = self.delivery.lock();
        if !self.state.lock().held {
            self.each(|follower| follower.heartbeat(Instant::now()));
        }
    }

    /// What no log may do: says that it was heard, whatever it has still to tell.
    #[cfg(test)]
    pub(crate) fn beat_ahead(&self) {
        self.each(|follower| follower.heartbeat(Instant::now()));
    }

    /// Tells all followers that the log has a gap; what was held back is in it.
    pub fn lose(&self) {
        let _delivery = self.delivery.lock();
        self.state.lock().waiting.clear();
        self.each(|follower| follower.notice(&Notice::Lost));
    }

    pub(crate) fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) -> u64 {
        let _delivery = self.delivery.lock();
        let mut state = self.state.lock();
        let is_known = |(_, of, known): &&(u64, String, Weak<dyn Follower>)| {
            of == namespace && Weak::ptr_eq(known, &follower)
        };
        let known = state.followers.iter().find(is_known);
        if let Some((origin, ..)) = known {
            return *origin;
        }
        let origin = self.origins.fetch_add(1, Ordering::Relaxed) + 1;
        state.followers.push((origin, namespace.to_owned(), follower.clone()));
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

    /// Appends a change; called under the lock of the data.
    pub(crate) fn append(&self, origin: u64, space: &Namespace, key: &TierKey, version: Option<Version>) {
        let (tenant, key) = (space.tenant.clone(), key.bytes.clone());
        self.push(origin, space, Notice::Key { tenant, key, version });
    }

    pub(crate) fn append_clear(&self, origin: u64, space: &Namespace) {
        self.push(origin, space, Notice::Clear { tenant: space.tenant.clone() });
    }

    fn push(&self, origin: u64, space: &Namespace, notice: Notice) {
        let namespace = space.name.clone();
        self.state.lock().waiting.push_back(Told { origin, namespace, notice });
    }

    /// Tells what waits, unless it is held back.
    pub(crate) fn deliver(&self) {
        let _delivery = self.delivery.lock();
        loop {
            let mut state = self.state.lock();
            let next = if state.held { None } else { state.waiting.pop_front() };
            drop(state);
            let Some(told) = next else { return };
            let unversioned = !matches!(told.notice, Notice::Key { version: Some(_), .. });
            for (origin, namespace, follower) in self.followers() {
                let known = origin == told.origin && unversioned;
                if namespace == told.namespace && !known {
                    follower.notice(&told.notice);
                }
            }
        }
    }

    fn each(&self, tell: impl Fn(&dyn Follower)) {
        self.followers().iter().for_each(|(_, _, follower)| tell(&**follower));
    }

    fn followers(&self) -> Vec<(u64, String, std::sync::Arc<dyn Follower>)> {
        let mut state = self.state.lock();
        state.followers.retain(|(_, _, follower)| follower.strong_count() > 0);
        let alive = state.followers.iter();
        alive.filter_map(|(origin, name, weak)| Some((*origin, name.clone(), weak.upgrade()?))).collect()
    }
}

/// The version that followers are told of an operation; `None` for one that they are not told of.
pub(crate) fn told_version(op: &Op, reply: &Reply) -> Option<Option<Version>> {
    match (op, reply) {
        (Op::Put { order: Order::Follow(version), .. }, _) => Some(Some(*version)),
        (Op::Put { order: Order::Unfenced(_), .. }, _) => Some(None),
        (Op::Put { order: Order::Author(_), .. }, Reply::Kept(version)) => Some(Some(*version)),
        (Op::Invalidate { version, .. }, _) => Some(*version),
        (Op::Remove { .. }, Reply::Done { version, .. }) => Some(Some(*version)),
        (Op::Expire { .. }, _) => Some(None),
        // A record that a fill created takes the place of an absence that others may keep.
        (Op::Fill { fence, .. }, Reply::Kept(version)) if fence.token == terrace_tier::Token::NONE => {
            Some(Some(*version))
        }
        _ => None,
    }
}
