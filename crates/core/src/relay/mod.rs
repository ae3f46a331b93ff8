//! The relay carries the changes in the log of the source of truth into the shared cache tiers, for all
//! processes.
//!
//! A writer changes the copies itself after its write has committed. A writer that dies after its commit
//! does not change the copies, and other programs never do. So one process, the leader, reads the log of
//! the source of truth and drops the older copies. The log of the tiers then notifies all near tiers.
//!
//! The watermark says how far the leader has come. The watermark is a cell of the nearest tier, so it is
//! lost or goes back in time together with the copies. Each process takes and advances the watermark by
//! compare-and-set. If two processes both act as the leader, the compare-and-set of one fails, and the
//! copies that this process dropped needlessly are read again. In a tier that drops copies and advances
//! the watermark in one step, the watermark proves copies: see [`Publication`](crate::Publication).
//!
//! This file decides when the relay makes a step. `step` makes a step, and `changes` says which copies a
//! step drops.

mod changes;
mod handle;
mod running;
mod step;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout, timeout_at};

use self::handle::RelayHandle;
pub(crate) use self::running::RunningRelay;
use crate::{
    Backend, Error, ErrorKind, Level, Namespace, Replay, Result, Version, freshness::AppliedChanges,
};

/// The longest time between two steps. In each step the leader advances the watermark, and a follower
/// reads it.
const MAX_TICK: Duration = Duration::from_millis(500);
/// The shortest time between two steps.
const MIN_TICK: Duration = Duration::from_millis(20);
/// How often the watermark advances within one bound. A proof by the watermark is older by two advances.
const ADVANCES_PER_BOUND: u32 = 10;
/// The number of ticks after which another relay takes over a watermark that has not advanced.
const TICKS_TO_TAKEOVER: u32 = 4;
/// The shortest time after which another relay takes over a watermark.
const MIN_TAKEOVER: Duration = Duration::from_millis(400);
/// The pause after a failed step. The pause doubles with each further failure, up to a follower's pause,
/// because changes wait until a step succeeds.
const RETRY: Duration = Duration::from_millis(20);
/// The longest time of a step. A step that takes longer than this time is tried again, because a tier
/// need not keep a budget by itself.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// The relay of one cache in one process.
pub(crate) struct Relay {
    log: Arc<dyn Replay>,
    /// The namespace of the cache, without a tenant.
    namespace: Namespace,
    /// The cache tiers with their budgets, near to far.
    tiers: Vec<(Arc<dyn Backend>, Duration)>,
    tombstone_ttl: Duration,
    /// The changes that this process has applied itself.
    applied: Arc<AppliedChanges>,
    /// A random number that distinguishes this relay from others.
    id: u64,
    state: RelayState,
}

/// What this relay knows of the watermark.
enum RelayState {
    Unknown,
    /// Another relay leads. The other relay's watermark has had this version since this time.
    Follower {
        version: Version,
        since: Instant,
    },
    /// This relay leads, and has dropped the copies that changed before this position of the log.
    Leader {
        version: Version,
        position: Bytes,
    },
}

impl Relay {
    fn new(
        log: Arc<dyn Replay>,
        namespace: Namespace,
        tiers: Vec<(Arc<dyn Backend>, Duration)>,
        tombstone_ttl: Duration,
    ) -> Self {
        let (id, state) = (fastrand::u64(..), RelayState::Unknown);
        let applied = Arc::default();
        Self { log, namespace, tiers, tombstone_ttl, applied, id, state }
    }

    /// The same relay, which lets newer copies stay where this process has applied a change itself.
    pub(crate) fn sparing(self, applied: Arc<AppliedChanges>) -> Self {
        Self { applied, ..self }
    }

    /// Makes one step after another until the cache is dropped.
    async fn run(mut self, handle: Weak<RelayHandle>) {
        let (mut due, mut failures) = (Instant::now(), 0);
        while let Some(waiting) = handle.upgrade() {
            let woken = timeout_at(due, waiting.changed()).await.is_ok();
            drop(waiting);
            let began = Instant::now();
            // Only the leader acts on a change at once. A follower reads the watermark when its pause is
            // over.
            if woken && began < due && !matches!(self.state, RelayState::Leader { .. }) {
                continue;
            }
            let step = self.guarded_step().await;
            if let Err(error) = &step {
                let (cache, tier) = (&self.namespace.name, self.tier_names());
                tracing::debug!(cache, tier, %error, "a step of the relay failed");
                // A follower remembers since when the watermark has not advanced: a tier that fails now and
                // then would keep everyone from taking over a dead leader.
                if matches!(self.state, RelayState::Leader { .. }) {
                    self.state = RelayState::Unknown;
                }
            }
            failures = if step.is_err() { failures + 1 } else { 0 };
            due = began + self.pause(failures);
            let Some(handle) = handle.upgrade() else { return };
            handle.record(&step, &self.namespace.name, &self.tier_names());
            let leads = matches!(self.state, RelayState::Leader { .. });
            if step.is_ok() {
                handle.stepped(began, leads);
            }
            handle.set_leads(leads);
            if !matches!(self.state, RelayState::Unknown) {
                handle.set_started();
            }
        }
    }

    /// The tiers that the relay carries changes into, near to far.
    fn tier_names(&self) -> String {
        self.tiers.iter().map(|(tier, _)| tier.name()).collect::<Vec<_>>().join(", ")
    }

    /// The time from the start of a step to the next one, if the log reports nothing.
    fn pause(&self, failures: u32) -> Duration {
        let follower_pause = self.takeover() / TICKS_TO_TAKEOVER;
        match &self.state {
            _ if failures > 0 => follower_pause.min(RETRY * 2_u32.saturating_pow(failures - 1)),
            RelayState::Leader { .. } => self.tick(),
            RelayState::Unknown => RETRY,
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

    /// Makes a step that always ends. A tier may hang or panic, and the relay goes on.
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
