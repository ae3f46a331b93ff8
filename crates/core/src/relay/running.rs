//! A relay runs on one runtime, and is started again on another one when that has ended.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{InvalidationLog, runtime::BackgroundTask};

use super::{Relay, handle::RelayHandle};
use crate::{Backend, Namespace, Replay, freshness::AppliedChanges};

/// The relay of one cache in one process. It ends when this value is dropped.
pub(crate) struct RunningRelay {
    handle: Arc<RelayHandle>,
    log: Arc<dyn InvalidationLog>,
    replay: Arc<dyn Replay>,
    namespace: Namespace,
    tiers: Vec<(Arc<dyn Backend>, Duration)>,
    tombstone_ttl: Duration,
    applied: Arc<AppliedChanges>,
    task: BackgroundTask,
}

impl RunningRelay {
    /// Starts a relay, if the log can be replayed. Outside of a runtime it starts with the first call of
    /// [`keep_running`](Self::keep_running) in one.
    pub(crate) fn start(
        log: Arc<dyn InvalidationLog>,
        namespace: Namespace,
        tiers: Vec<(Arc<dyn Backend>, Duration)>,
        tombstone_ttl: Duration,
        applied: &Arc<AppliedChanges>,
    ) -> Option<Self> {
        let (handle, replay) = (Arc::new(RelayHandle::default()), log.replay()?);
        let follower: Weak<RelayHandle> = Arc::downgrade(&handle);
        let (applied, task) = (Arc::clone(applied), BackgroundTask::default());
        let relay = Self { handle, log, replay, namespace, tiers, tombstone_ttl, applied, task };
        relay.keep_running();
        relay.log.follow(&relay.namespace.name, follower);
        Some(relay)
    }

    /// Starts the relay, and the task that reads its log, where they have ended with their runtimes.
    pub(crate) fn keep_running(&self) {
        self.log.keep_following();
        self.task.start(|| {
            let (replay, namespace) = (Arc::clone(&self.replay), self.namespace.clone());
            let relay = Relay::new(replay, namespace, self.tiers.clone(), self.tombstone_ttl);
            relay.sparing(Arc::clone(&self.applied)).run(Arc::downgrade(&self.handle))
        });
    }

    pub(crate) fn handle(&self) -> &RelayHandle {
        &self.handle
    }
}
