//! The relay: it carries the changes in the truth's log into the shared cache tiers, for all processes.
//!
//! A writer changes the copies itself once its write has committed. A writer that dies in between does
//! not, and other programs never do. So one process, the leader, reads the truth's own log and drops
//! the older copies; the log of the tiers then notifies all near tiers.
//!
//! The watermark says how far the leader has come. It is a cell of the nearest tier, so it is lost or
//! goes back in time together with the copies. It is taken and advanced by compare-and-set: of two
//! processes that both act as the leader, one fails, and the copies that it dropped needlessly are read
//! again. A tier that drops copies and advances the watermark in one step lets the watermark prove
//! copies: see [`Publication`](crate::Publication).
//!
//! This file decides when the relay makes a step; `step` makes it, and `changes` says what it drops.

mod changes;
mod handle;
mod step;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use self::handle::RelayHandle;
use crate::{Backend, Error, ErrorKind, Level, Namespace, Replay, Result, Version};

/// The longest time between two steps: the leader advances the watermark, a follower looks at it.
const MAX_TICK: Duration = Duration::from_millis(500);
/// The shortest such time.
const MIN_TICK: Duration = Duration::from_millis(20);
/// How often the watermark advances within one bound: what it proves is older by two advances.
const ADVANCES_PER_BOUND: u32 = 10;
/// A watermark that has not advanced for this many ticks is taken over.
const TICKS_TO_TAKEOVER: u32 = 4;
/// It is never taken over sooner than this.
const MIN_TAKEOVER: Duration = Duration::from_millis(400);
/// The pause after a failed step. It doubles with each further failure, up to a follower's pause:
/// changes wait meanwhile, whatever the failure was.
const RETRY: Duration = Duration::from_millis(20);
/// A step that takes longer is tried again: a tier need not keep a budget by itself.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// The relay of one cache in one process.
pub(crate) struct Relay {
    log: Arc<dyn Replay>,
    /// The namespace of the cache, without a tenant.
    namespace: Namespace,
    /// The cache tiers with their budgets, near to far.
    tiers: Vec<(Arc<dyn Backend>, Duration)>,
    tombstone_ttl: Duration,
    /// A random number that tells this relay from others.
    id: u64,
    state: RelayState,
}

/// What this relay knows of the watermark.
enum RelayState {
    Unknown,
    /// Another relay leads; its watermark has this version and has not advanced since.
    Follower {
        version: Version,
        since: Instant,
    },
    /// This relay leads; it has dropped the changes before this position of the log.
    Leader {
        version: Version,
        position: Bytes,
    },
}

impl Relay {
    pub(crate) fn new(
        log: Arc<dyn Replay>,
        namespace: Namespace,
        tiers: Vec<(Arc<dyn Backend>, Duration)>,
        tombstone_ttl: Duration,
    ) -> Self {
        let (id, state) = (fastrand::u64(..), RelayState::Unknown);
        Self { log, namespace, tiers, tombstone_ttl, id, state }
    }

    /// Makes one step after another until the cache has gone.
    pub(crate) async fn run(mut self, handle: Weak<RelayHandle>) {
        let (mut due, mut failures) = (Instant::now(), 0);
        while let Some(waiting) = handle.upgrade() {
            let woken = timeout_at(due, waiting.changed()).await.is_ok();
            drop(waiting);
            let began = Instant::now();
            // Only the leader acts on a change at once; a follower looks when its pause is over.
            if woken && began < due && !matches!(self.state, RelayState::Leader { .. }) {
                continue;
            }
            let step = self.guarded_step().await;
            if let Err(error) = &step {
                tracing::debug!(%error, cache = %self.namespace.name, "a step of the relay failed");
                self.state = RelayState::Unknown;
            }
            failures = if step.is_err() { failures + 1 } else { 0 };
            due = began + self.pause(failures);
            let Some(handle) = handle.upgrade() else { return };
            handle.record(&step, &self.namespace.name);
            if !matches!(self.state, RelayState::Unknown) {
                handle.set_started();
            }
        }
    }

    /// The time from the start of a step to the next one, if the log reports nothing.
    fn pause(&self, failures: u32) -> Duration {
        let follower_pause = self.takeover() / TICKS_TO_TAKEOVER;
        match &self.state {
            RelayState::Leader { .. } => self.tick(),
            RelayState::Unknown => {
                follower_pause.min(RETRY * 2_u32.saturating_pow(failures.saturating_sub(1)))
            }
            RelayState::Follower { .. } => follower_pause,
        }
    }

    fn tick(&self) -> Duration {
        match self.namespace.level {
            Level::Bounded(bound) => (bound / ADVANCES_PER_BOUND).clamp(MIN_TICK, MAX_TICK),
            _ => MAX_TICK,
        }
    }

    fn takeover(&self) -> Duration {
        (self.tick() * TICKS_TO_TAKEOVER).max(MIN_TAKEOVER)
    }

    /// A step that always ends: a tier may hang or panic, and the relay goes on.
    async fn guarded_step(&mut self) -> Result<()> {
        match timeout(STEP_TIMEOUT, AssertUnwindSafe(self.step()).catch_unwind()).await {
            Ok(Ok(step)) => step,
            Ok(Err(_panic)) => {
                Err(Error::new(ErrorKind::Panicked, "a tier or a log panicked in a step of the relay"))
            }
            Err(_) => Err(Error::timeout(STEP_TIMEOUT)),
        }
    }
}
