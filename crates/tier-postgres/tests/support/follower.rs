//! A follower that records its notices and heartbeats.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_core::key::decode_key;
use terrace_tier::{Follower, Notice};
use tokio::{sync::Notify, time::Instant};

#[derive(Default)]
pub(crate) struct RecordingFollower {
    notices: Mutex<Vec<(Instant, Notice)>>,
    heartbeats: Mutex<Vec<(Instant, Instant)>>,
    changed: Notify,
}

impl Follower for RecordingFollower {
    fn notice(&self, notice: &Notice) {
        self.notices.lock().push((Instant::now(), notice.clone()));
        self.changed.notify_waiters();
    }

    fn heartbeat(&self, at: Instant) {
        self.heartbeats.lock().push((at, Instant::now()));
        self.changed.notify_waiters();
    }
}

impl RecordingFollower {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn weak(self: &Arc<Self>) -> Weak<dyn Follower> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    /// Waits until the follower knows all changes that happened before this call.
    pub(crate) async fn caught_up(&self) {
        let from = Instant::now();
        self.until(|follower| follower.heartbeats.lock().last().is_some_and(|(at, _)| *at >= from)).await;
    }

    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("notified in time");
    }

    /// The notices since the last call, each with its time.
    pub(crate) fn take_timed(&self) -> Vec<(Instant, Notice)> {
        std::mem::take(&mut *self.notices.lock())
    }

    /// The notices since the last call.
    pub(crate) fn take(&self) -> Vec<Notice> {
        self.take_timed().into_iter().map(|(_, notice)| notice).collect()
    }

    /// The keys (integers) in the notices since the last call, sorted.
    pub(crate) fn take_keys(&self) -> Vec<u64> {
        let key = |notice| match notice {
            Notice::Key { key, .. } => decode_key(&key).expect("an integer"),
            other => panic!("{other:?}"),
        };
        let mut keys: Vec<u64> = self.take().into_iter().map(key).collect();
        keys.sort_unstable();
        keys
    }

    /// The instant of each heartbeat and the time of its arrival; the newest is last.
    pub(crate) fn heartbeats(&self) -> Vec<(Instant, Instant)> {
        self.heartbeats.lock().clone()
    }
}
