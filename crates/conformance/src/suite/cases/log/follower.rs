//! A follower that records what an invalidation log reports.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::{Follower, Notice, TierKey, Version};
use tokio::{sync::Notify, time::Instant};

use crate::suite::{Bench, Failure, Outcome, ensure};

/// How long a log may take to report a change, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Records the notices and heartbeats of a log.
#[derive(Default)]
pub(super) struct RecordingFollower {
    events: Mutex<Vec<Event>>,
    changed: Notify,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Notice(Notice),
    /// A heartbeat for the time `at`, which arrived at `received`.
    Heartbeat {
        at: Instant,
        received: Instant,
    },
}

impl Follower for RecordingFollower {
    fn notice(&self, notice: &Notice) {
        self.push(Event::Notice(notice.clone()));
    }

    fn heartbeat(&self, at: Instant) {
        self.push(Event::Heartbeat { at, received: Instant::now() });
    }
}

impl RecordingFollower {
    /// Of heartbeats in a row, the first and the last are kept.
    fn push(&self, new: Event) {
        let mut events = self.events.lock();
        if let (Event::Heartbeat { .. }, [.., Event::Heartbeat { .. }, last @ Event::Heartbeat { .. }]) =
            (&new, &mut events[..])
        {
            *last = new;
        } else {
            events.push(new);
        }
        drop(events);
        self.changed.notify_waiters();
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// The notices after the first, which is `Lost`.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let notices = self.events().into_iter().filter_map(|event| match event {
            Event::Notice(notice) => Some(notice),
            Event::Heartbeat { .. } => None,
        });
        notices.skip(1).collect()
    }

    pub(super) async fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Outcome {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let changed = self.changed.notified();
            if is_so(self) {
                return Ok(());
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
        }
        ensure!(is_so(self), "{what}\n  reported {:?}", self.events());
        Ok(())
    }

    /// Waits until the log has reported `count` changes.
    pub(super) async fn wait_for(&self, count: usize) -> Result<Vec<Notice>, Failure> {
        let what = format!("the log must report {count} changes");
        self.wait_until(&what, |follower| follower.notices().len() >= count).await?;
        Ok(self.notices())
    }

    /// Waits until the log has reported all changes before `since`.
    pub(super) async fn wait_for_heartbeat(&self, since: Instant) -> Outcome {
        let is_late_enough = |event: &Event| matches!(event, Event::Heartbeat { at, .. } if *at >= since);
        let arrived = |follower: &Self| follower.events().iter().any(is_late_enough);
        self.wait_until("a heartbeat of the log must arrive", arrived).await
    }
}

impl Bench {
    /// A follower to which the log has reported all changes until now.
    pub(super) async fn follow_log(&self) -> Result<Arc<RecordingFollower>, Failure> {
        let follower = Arc::new(RecordingFollower::default());
        self.followed_by(&follower)?;
        follower.wait_for_heartbeat(Instant::now()).await?;
        Ok(follower)
    }

    pub(super) fn followed_by(&self, follower: &Arc<RecordingFollower>) -> Outcome {
        let follower: Arc<dyn Follower> = Arc::clone(follower) as Arc<dyn Follower>;
        let follower: Weak<dyn Follower> = Arc::downgrade(&follower);
        match self.tier.log() {
            Some(log) => log.follow(&self.namespace.name, follower),
            None => ensure!(false, "the tier must have a log"),
        }
        Ok(())
    }

    /// The notice of a change of this key.
    pub(super) fn notice(&self, key: &TierKey, version: impl Into<Option<Version>>) -> Notice {
        let (tenant, key, version) = (self.namespace.tenant.clone(), key.bytes.clone(), version.into());
        Notice::Key { tenant, key, version }
    }
}
