//! Twenty readers and one writer of one key, and what they see of a failover.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use terrace::{BoxError, Cache, NoNear, Redis, Source};
use tokio::{task::JoinSet, time::sleep};

use super::{BACK_WITHIN, OLD_UNTIL};
use crate::Result;

const READERS: usize = 20;
const KEY: u64 = 1;
/// The time between two calls of one caller.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) type Stack = Cache<u64, u64, NoNear>;

/// What one run showed. Times count from the promotion.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) reads_back: Option<Duration>,
    pub(super) writes_back: Option<Duration>,
    /// `None` if the old primary answered nothing after the promotion.
    pub(super) last_old: Option<Duration>,
    pub(super) reads: u64,
    pub(super) beyond: u64,
    pub(super) lost: u64,
}

impl Measured {
    pub(super) fn keeps_what_is_promised(&self) -> bool {
        let in_time = |time: Option<Duration>| time.is_some_and(|time| time <= BACK_WITHIN);
        in_time(self.reads_back)
            && in_time(self.writes_back)
            && self.last_old.is_none_or(|time| time <= OLD_UNTIL)
            && self.beyond == 0
    }
}

/// What the callers use, and how they know which server has answered.
#[derive(Clone)]
pub(super) enum Target {
    /// Copies in Redis. The run id of the handle's connection is that of the server that answers.
    Copies { cache: Stack, redis: Redis },
    /// Records in Postgres. After the promotion only the new primary takes writes.
    Records { cache: Stack },
}

/// The callers, while they run.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

struct Shared {
    target: Target,
    /// The run id of the old primary.
    old: Option<Arc<str>>,
    over: AtomicBool,
    promoted: OnceLock<Instant>,
    /// The value that was written last, and the last one that was acknowledged: by any server, and by the new one.
    latest: AtomicU64,
    acknowledged: AtomicU64,
    of_new: AtomicU64,
    /// What was acknowledged at the promotion.
    before: AtomicU64,
    reads_back: OnceLock<Duration>,
    writes_back: OnceLock<Duration>,
    /// When the old primary answered last, in microseconds since the promotion.
    last_old: AtomicU64,
    reads: AtomicU64,
    beyond: AtomicU64,
    lost: AtomicU64,
}

impl Traffic {
    /// Starts the callers, and returns once the first value was written and read.
    pub(super) async fn start(target: Target) -> Result<Self> {
        target.cache().ready().await?;
        let old = target.run_id();
        let shared = Arc::new(Shared {
            target,
            old,
            over: AtomicBool::new(false),
            promoted: OnceLock::new(),
            latest: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            of_new: AtomicU64::new(0),
            before: AtomicU64::new(u64::MAX),
            reads_back: OnceLock::new(),
            writes_back: OnceLock::new(),
            last_old: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        if !shared.write().await {
            return Err("the first write was refused".into());
        }
        let mut callers = JoinSet::new();
        for caller in 0..=READERS {
            let shared = Arc::clone(&shared);
            callers.spawn(async move {
                while !shared.over.load(Ordering::Relaxed) {
                    if caller == 0 {
                        shared.write().await;
                    } else {
                        Arc::clone(&shared).read().await;
                    }
                    sleep(PAUSE).await;
                }
            });
        }
        sleep(Duration::from_millis(500)).await;
        Ok(Self { shared, callers })
    }

    /// Starts the clock.
    pub(super) fn promoted(&self) {
        let shared = &self.shared;
        shared.before.store(shared.latest.load(Ordering::SeqCst), Ordering::SeqCst);
        shared.promoted.get_or_init(Instant::now);
    }

    /// The old primary answered something this long after the promotion.
    pub(super) fn old_answered(&self, since_promotion: Duration) {
        self.shared.old_answered(since_promotion);
    }

    /// Lets the callers go on for this time, and ends them.
    pub(super) async fn end(mut self, after: Duration) -> Result<Measured> {
        sleep(after).await;
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended?;
        }
        let shared = &self.shared;
        shared.target.cache().close().await;
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let last_old = Duration::from_micros(count(&shared.last_old));
        Ok(Measured {
            reads_back: shared.reads_back.get().copied(),
            writes_back: shared.writes_back.get().copied(),
            last_old: (!last_old.is_zero()).then_some(last_old),
            reads: count(&shared.reads),
            beyond: count(&shared.beyond),
            lost: count(&shared.lost),
        })
    }
}

impl Target {
    fn cache(&self) -> &Stack {
        match self {
            Self::Copies { cache, .. } | Self::Records { cache } => cache,
        }
    }

    fn run_id(&self) -> Option<Arc<str>> {
        match self {
            Self::Copies { redis, .. } => redis.run_id(),
            Self::Records { .. } => None,
        }
    }
}

impl Shared {
    /// Whether calls go to the new primary.
    fn is_at_new(&self) -> bool {
        let promoted = self.promoted.get().is_some();
        match self.target {
            Target::Copies { .. } => promoted && self.target.run_id().is_some_and(|id| Some(id) != self.old),
            Target::Records { .. } => promoted,
        }
    }

    /// Whether calls go to the old primary although there is a new one. With Postgres the case itself asks the
    /// old server.
    fn is_still_at_old(&self) -> bool {
        let run_id = self.target.run_id();
        self.promoted.get().is_some() && run_id.is_some() && run_id == self.old
    }

    fn since_promotion(&self) -> Duration {
        self.promoted.get().map(Instant::elapsed).unwrap_or_default()
    }

    fn old_answered(&self, since_promotion: Duration) {
        let micros = u64::try_from(since_promotion.as_micros()).unwrap_or(u64::MAX);
        self.last_old.fetch_max(micros, Ordering::SeqCst);
    }

    /// Changes the value; returns whether the change was acknowledged.
    async fn write(&self) -> bool {
        let value = self.latest.fetch_add(1, Ordering::SeqCst) + 1;
        let (at_new, at_old) = (self.is_at_new(), self.is_still_at_old());
        let done = match &self.target {
            Target::Copies { cache, .. } => cache.invalidate(&KEY).await.is_ok(),
            Target::Records { cache } => cache.put(&KEY, value).await.is_ok(),
        };
        if done {
            self.acknowledged.fetch_max(value, Ordering::SeqCst);
            if at_new && self.is_at_new() {
                self.of_new.fetch_max(value, Ordering::SeqCst);
                let _first = self.writes_back.set(self.since_promotion());
            } else if at_old && self.is_still_at_old() {
                self.old_answered(self.since_promotion());
            }
        }
        done
    }

    async fn read(self: Arc<Self>) {
        let (of_any, of_new) = (self.acknowledged.load(Ordering::SeqCst), self.of_new.load(Ordering::SeqCst));
        let (at_new, at_old) = (self.is_at_new(), self.is_still_at_old());
        // The value, and whether a server gave it.
        let found = match &self.target {
            Target::Copies { cache, .. } => {
                let shared = Arc::clone(&self);
                let load = move || {
                    let latest = shared.latest.load(Ordering::SeqCst);
                    std::future::ready(Ok::<_, BoxError>(latest))
                };
                let found = cache.get_or_load(&KEY, load).await.ok();
                found.map(|found| (*found, matches!(found.served().from, Source::Tier(_))))
            }
            Target::Records { cache } => {
                let found = cache.get(&KEY).await.ok().flatten();
                // Before the promotion no server had a value that is newer than this one.
                found.map(|found| (*found, *found > self.before.load(Ordering::SeqCst)))
            }
        };
        let Some((value, of_server)) = found else { return };
        self.reads.fetch_add(1, Ordering::Relaxed);
        if of_server && at_new && self.is_at_new() {
            let _first = self.reads_back.set(self.since_promotion());
        }
        if of_server && at_old && self.is_still_at_old() {
            self.old_answered(self.since_promotion());
        }
        if value < of_new {
            self.beyond.fetch_add(1, Ordering::SeqCst);
        } else if value < of_any {
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_late_or_reads_what_no_level_allows_is_missed() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let good = || Measured { reads_back: ms(2_999), writes_back: ms(10), ..Measured::default() };
        assert!(good().keeps_what_is_promised());
        assert!(Measured { last_old: ms(1_200), lost: 7, ..good() }.keeps_what_is_promised());
        for missed in [
            Measured { reads_back: ms(3_001), ..good() },
            Measured { writes_back: None, ..good() },
            Measured { last_old: ms(1_201), ..good() },
            Measured { beyond: 1, ..good() },
        ] {
            assert!(!missed.keeps_what_is_promised(), "{missed:?}");
        }
    }
}
