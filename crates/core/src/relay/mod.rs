//! The relay: carries what a log tells of the truth into the shared cache tiers, for all processes.
//!
//! A writer changes the copies itself once its write has committed. One that dies in between has not,
//! and other programs never do. So one process, whoever holds the place, reads the truth's own log and
//! drops the copies that are older; the tiers' log then tells all near tiers.
//!
//! How far that was done stands in the mark, a cell of the nearest tier that is lost or goes back in
//! time together with the copies. It is taken and moved by compare-and-set: of two processes that
//! take themselves for the holder one fails, and what it dropped for nothing is read again. Where the
//! tier can, drops and move are one step, and the mark then certifies copies: see [`Publication`].

mod news;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use self::news::News;
use crate::{
    Backend, Condition, Deadlines, Error, ErrorKind, Follower, Level, Namespace, Notice, Op, Order,
    Publication, Replay, Reply, Result, Tier, TierKey, Timestamp, Version, Watermark,
    defence::{Defence, enabled},
};

/// So often, at least, the holder says that it is there, and the others look.
const TICK: Duration = Duration::from_millis(500);
/// A mark moves so many times while a bound passes, since what it proves is older by two moves.
const MOVES_A_BOUND: u32 = 10;
/// And not more often than this.
const SHORTEST_TICK: Duration = Duration::from_millis(20);
/// A mark that nobody has moved for so many ticks is taken over, but not sooner than one that is
/// moved by [`TICK`] could be.
const TICKS_TO_TAKEOVER: u32 = 4;
const SHORTEST_TAKEOVER: Duration = Duration::from_millis(400);
/// Behind a step that failed, and twice as long behind each that follows, up to the pause of those who
/// look: whatever it was, news waits for it.
const RETRY: Duration = Duration::from_millis(20);
/// What takes longer is tried anew: a tier need not keep a budget by itself.
const STEP: Duration = Duration::from_secs(30);
/// Keys dropped in one call, where that is not the step.
const BATCH: usize = 500;

/// Wakes the relay of a cache; the task ends when the cache has gone, and this with it.
#[derive(Default)]
pub(crate) struct Wake {
    changed: Notify,
    begun: AtomicBool,
    has_begun: Notify,
    /// Why the last step failed, where waiting does not heal it.
    failed: Mutex<Option<Error>>,
}

/// What a relay works on.
pub(crate) struct Relay {
    source: Arc<dyn Replay>,
    /// The cache's, without a tenant.
    space: Namespace,
    /// The cache tiers from near to far.
    tiers: Vec<(Arc<dyn Backend>, Duration)>,
    tombstone_ttl: Duration,
    /// Tells this relay from others.
    holder: u64,
    place: Place,
}

/// What is known of the mark.
enum Place {
    Unknown,
    /// Another's, unmoved since.
    Seen {
        version: Version,
        since: Instant,
    },
    /// Ours.
    Held {
        version: Version,
        place: Bytes,
    },
}

impl Follower for Wake {
    fn notice(&self, _notice: &Notice) {
        self.changed.notify_one();
    }

    fn heartbeat(&self, _at: Instant) {}
}

impl Wake {
    /// Waits, for a while, until somebody relays; whether that is so.
    ///
    /// # Errors
    /// Why this process could not, where waiting does not heal it.
    pub(crate) async fn begun(&self) -> Result<bool> {
        let begun = self.has_begun.notified();
        if self.begun.load(Ordering::Acquire) || timeout(TICK, begun).await.is_ok() {
            return Ok(true);
        }
        self.failed.lock().clone().map_or(Ok(false), Err)
    }

    /// Notes why the last step failed, if waiting does not heal it; what is new is said once.
    fn note(&self, step: &Result<()>, namespace: &str) {
        let lasting = step.as_ref().err().filter(|error| !error.is_transient());
        let mut failed = self.failed.lock();
        if let (Some(error), None) = (lasting, &*failed) {
            tracing::warn!(%error, cache = %namespace, "the relay cannot go on; it tries again");
        }
        *failed = lasting.cloned();
    }

    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.has_begun.notify_waiters();
    }
}

impl Relay {
    pub(crate) fn new(
        source: Arc<dyn Replay>,
        space: Namespace,
        tiers: Vec<(Arc<dyn Backend>, Duration)>,
        tombstone_ttl: Duration,
    ) -> Self {
        Self { source, space, tiers, tombstone_ttl, holder: fastrand::u64(..), place: Place::Unknown }
    }

    /// Works until the cache has gone.
    pub(crate) async fn run(mut self, wake: Weak<Wake>) {
        let (mut due, mut failures) = (Instant::now(), 0);
        while let Some(waiting) = wake.upgrade() {
            let woken = timeout_at(due, waiting.changed.notified()).await.is_ok();
            drop(waiting);
            let begun = Instant::now();
            if woken && begun < due && !matches!(self.place, Place::Held { .. }) {
                continue;
            }
            let step = self.guarded_step().await;
            if let Err(error) = &step {
                tracing::debug!(%error, cache = %self.space.name, "a step of the relay failed");
                self.place = Place::Unknown;
            }
            failures = if step.is_err() { failures + 1 } else { 0 };
            due = begun + self.pause(failures);
            let Some(wake) = wake.upgrade() else { return };
            wake.note(&step, &self.space.name);
            if !matches!(self.place, Place::Unknown) {
                wake.begin();
            }
        }
    }

    /// Until the next step, if nothing happens.
    fn pause(&self, failures: u32) -> Duration {
        let look = self.takeover() / TICKS_TO_TAKEOVER;
        match &self.place {
            Place::Held { .. } => self.tick(),
            Place::Unknown => look.min(RETRY * 2_u32.saturating_pow(failures.saturating_sub(1))),
            Place::Seen { .. } => look,
        }
    }

    fn tick(&self) -> Duration {
        match self.space.level {
            Level::Bounded(bound) => (bound / MOVES_A_BOUND).clamp(SHORTEST_TICK, TICK),
            _ => TICK,
        }
    }

    fn takeover(&self) -> Duration {
        (self.tick() * TICKS_TO_TAKEOVER).max(SHORTEST_TAKEOVER)
    }

    /// A step that ends: a tier may hang or panic, and the relay goes on.
    async fn guarded_step(&mut self) -> Result<()> {
        match timeout(STEP, AssertUnwindSafe(self.step()).catch_unwind()).await {
            Ok(Ok(step)) => step,
            Ok(Err(_panic)) => {
                Err(Error::new(ErrorKind::Panicked, "a tier or a log panicked in a step of the relay"))
            }
            Err(_) => Err(Error::timeout(STEP)),
        }
    }

    async fn step(&mut self) -> Result<()> {
        match &self.place {
            Place::Held { version, place } => {
                let (version, place) = (*version, place.clone());
                self.carry_on(version, &place).await
            }
            Place::Unknown | Place::Seen { .. } => self.look().await,
        }
    }

    /// Looks who holds the mark, and takes it where nobody does.
    async fn look(&mut self) -> Result<()> {
        let (tier, key) = self.mark_cell()?;
        let (version, body) = match tier.apply(&key, Op::Get).await? {
            Reply::Hit(stored) => (stored.version, stored.body),
            _ => (Version::NONE, None),
        };
        let Some(body) = body else { return self.begin(Condition::Absent).await };
        let mark = Watermark::decode(&body);
        let since = match self.place {
            Place::Seen { version: seen, since } if seen == version => since,
            _ => Instant::now(),
        };
        let ours = mark.as_ref().is_some_and(|mark| mark.relay == self.holder);
        if !ours && since.elapsed() < self.takeover() {
            self.place = Place::Seen { version, since };
            return Ok(());
        }
        match mark {
            Some(mark) => self.carry_on(version, &mark.position).await,
            // What an older program left, and nobody moves any more.
            None => self.begin(Condition::Version(version)).await,
        }
    }

    /// Nobody knows up to where copies were dropped: all are.
    async fn begin(&mut self, expected: Condition) -> Result<()> {
        let mark = self.mark(Version::NONE, self.source.end().await?);
        let news = if enabled(Defence::Begin) { News::everything() } else { News::default() };
        self.move_to(expected, &news, mark).await
    }

    /// Drops what changed behind the place, and moves the mark. What it proves is dated by the version
    /// that it had before the changes were read.
    async fn carry_on(&mut self, version: Version, place: &Bytes) -> Result<()> {
        let (notices, next) = match self.source.since(&self.space.name, place).await? {
            Some(read) => read,
            None if enabled(Defence::Missed) => (vec![Notice::Lost], self.source.end().await?),
            None => (Vec::new(), self.source.end().await?),
        };
        let mark = self.mark(version, next);
        self.move_to(Condition::Version(version), &News::of(&notices), mark).await
    }

    /// Drops the news from every tier, far to near; each must confirm it before the mark moves.
    async fn move_to(&mut self, expected: Condition, news: &News<'_>, mark: Watermark) -> Result<()> {
        let (nearest, farther) = self.tiers.split_first().ok_or_else(no_tier)?;
        for tier in farther.iter().rev() {
            self.drop_from(tier, news).await?;
        }
        let tier = self.open(nearest, None)?;
        let (reply, place) = match tier.publish() {
            Some(publish) => {
                let (clears, drops) = news.in_one_step(&self.space.name);
                let (key, body) = (Watermark::key(&self.space.name), mark.encode());
                let tombstone_ttl = self.tombstone_ttl;
                let step = Publication::new(key, expected, body, tombstone_ttl)
                    .with_drops(drops)
                    .with_clears(clears);
                (publish.publish(step).await?, mark.position)
            }
            None => {
                self.drop_from(nearest, news).await?;
                let uncertified = Watermark { version: Version::NONE, ..mark };
                (self.put(expected, uncertified.encode()).await?, uncertified.position)
            }
        };
        self.place = match reply {
            Reply::Kept(version) => Place::Held { version, place },
            _ => Place::Seen { version: Version::NONE, since: Instant::now() },
        };
        Ok(())
    }

    fn mark(&self, watermark: Version, place: Bytes) -> Watermark {
        Watermark { relay: self.holder, version: watermark, position: place }
    }

    /// Moves the mark of a tier that cannot do so in one step with the drops: it certifies nothing.
    async fn put(&self, expected: Condition, body: Bytes) -> Result<Reply> {
        let (tier, key) = self.mark_cell()?;
        let put = Op::Put {
            order: Order::Author(expected),
            deadlines: Deadlines::forever(Timestamp::default()),
            body: Some(body),
            tombstone_ttl: self.tombstone_ttl,
        };
        tier.apply(&key, put).await
    }

    /// Drops the news from one tier, tenant by tenant.
    async fn drop_from(&self, tier: &(Arc<dyn Backend>, Duration), news: &News<'_>) -> Result<()> {
        for (tenant, stale) in news.tenants() {
            let tier = self.open(tier, tenant)?;
            if stale.all {
                tier.clear().await?;
                continue;
            }
            let drops = stale.drops(&self.space.name, tenant);
            let drop = |(key, version)| (key, Op::Invalidate { version, tombstone_ttl: self.tombstone_ttl });
            let drops: Vec<(TierKey, Op)> = drops.map(drop).collect();
            for batch in drops.chunks(BATCH) {
                for reply in tier.apply_many(batch.to_vec()).await {
                    reply?;
                }
            }
        }
        Ok(())
    }

    fn open(&self, tier: &(Arc<dyn Backend>, Duration), tenant: Option<&str>) -> Result<Arc<dyn Tier>> {
        let (backend, budget) = tier;
        backend.open(&self.space.clone().with_tenant(tenant.map(str::to_owned)).with_budget(*budget))
    }

    /// Where the mark is kept.
    fn mark_cell(&self) -> Result<(Arc<dyn Tier>, TierKey)> {
        let (backend, budget) = self.tiers.first().ok_or_else(no_tier)?;
        let space = Watermark::namespace(&self.space.clone().with_budget(*budget));
        Ok((backend.open(&space)?, Watermark::key(&self.space.name)))
    }
}

fn no_tier() -> Error {
    Error::config("a relay without a tier")
}
