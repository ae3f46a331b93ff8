//! A follower that notes what it is told.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::key::decode_key;
use terrace_tier::{Follower, Notice};
use tokio::{sync::Notify, time::Instant};

#[derive(Default)]
pub(crate) struct Hearing {
    told: Mutex<Vec<(Instant, Notice)>>,
    heard: Mutex<Vec<(Instant, Instant)>>,
    changed: Notify,
}

impl Follower for Hearing {
    fn notice(&self, notice: &Notice) {
        self.told.lock().push((Instant::now(), notice.clone()));
        self.changed.notify_waiters();
    }

    fn heartbeat(&self, at: Instant) {
        self.heard.lock().push((at, Instant::now()));
        self.changed.notify_waiters();
    }
}

impl Hearing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn weak(self: &Arc<Self>) -> Weak<dyn Follower> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    /// Waits until all that has happened before the call was told.
    pub(crate) async fn caught_up(&self) {
        let from = Instant::now();
        self.until(|hearing| hearing.heard.lock().last().is_some_and(|(at, _)| *at >= from)).await;
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
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("told in time");
    }

    /// What it was told since the last call, and when.
    pub(crate) fn take_timed(&self) -> Vec<(Instant, Notice)> {
        std::mem::take(&mut *self.told.lock())
    }

    pub(crate) fn take(&self) -> Vec<Notice> {
        self.take_timed().into_iter().map(|(_, notice)| notice).collect()
    }

    /// The keys (integers) that it was told of since the last call, sorted.
    pub(crate) fn take_keys(&self) -> Vec<u64> {
        let key = |notice| match notice {
            Notice::Key { key, .. } => decode_key(&key).expect("an integer"),
            other => panic!("{other:?}"),
        };
        let mut keys: Vec<u64> = self.take().into_iter().map(key).collect();
        keys.sort_unstable();
        keys
    }

    /// Up to when it heard, and when it was told so; newest last.
    pub(crate) fn heartbeat(&self) -> Vec<(Instant, Instant)> {
        self.heard.lock().clone()
    }
}
