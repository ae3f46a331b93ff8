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
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use self::news::News;
use crate::{
    Backend, Condition, Deadlines, Error, ErrorKind, Follower, Level, Mark, Notice, Op, Order, Publication,
    Publish, Replay, Reply, Result, Space, Tier, TierKey, Timestamp, Version,
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
}

/// What a relay works on.
pub(crate) struct Relay {
    source: Arc<dyn Replay>,
    /// The cache's, without a tenant.
    space: Space,
    /// The cache tiers from near to far.
    tiers: Vec<(Arc<dyn Backend>, Duration)>,
    mark_ttl: Duration,
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
        mark: Mark,
    },
}

impl Follower for Wake {
    fn notice(&self, _notice: &Notice) {
        self.changed.notify_one();
    }

    fn heard(&self, _at: Instant) {}
}

impl Wake {
    /// Waits, for a while, until somebody relays; whether that is so.
    pub(crate) async fn begun(&self) -> bool {
        let begun = self.has_begun.notified();
        self.begun.load(Ordering::Acquire) || timeout(TICK, begun).await.is_ok()
    }

    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.has_begun.notify_waiters();
    }
}

impl Relay {
    pub(crate) fn new(
        source: Arc<dyn Replay>,
        space: Space,
        tiers: Vec<(Arc<dyn Backend>, Duration)>,
        mark_ttl: Duration,
    ) -> Self {
        Self { source, space, tiers, mark_ttl, holder: fastrand::u64(..), place: Place::Unknown }
    }

    /// Works until the cache has gone.
    pub(crate) async fn run(mut self, wake: Weak<Wake>) {
        let mut due = Instant::now();
        while let Some(waiting) = wake.upgrade() {
            let woken = timeout_at(due, waiting.changed.notified()).await.is_ok();
            drop(waiting);
            let begun = Instant::now();
            if woken && begun < due && !matches!(self.place, Place::Held { .. }) {
                continue;
            }
            let step = timeout(STEP, self.step()).await.unwrap_or_else(|_| Err(Error::timeout(STEP)));
            if let Err(error) = &step {
                tracing::debug!(%error, cache = %self.space.namespace, "the relay could not go on; it tries again");
                self.place = Place::Unknown;
            }
            due = begun + self.pause();
            if let (Place::Held { .. } | Place::Seen { .. }, Some(wake)) = (&self.place, wake.upgrade()) {
                wake.begin();
            }
        }
    }

    /// Until the next step, if nothing happens.
    fn pause(&self) -> Duration {
        match &self.place {
            Place::Held { .. } => self.tick(),
            Place::Unknown | Place::Seen { .. } => self.takeover() / TICKS_TO_TAKEOVER,
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

    async fn step(&mut self) -> Result<()> {
        match &self.place {
            Place::Held { version, mark } => {
                let (version, mark) = (*version, mark.clone());
                self.carry_on(version, mark).await
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
        let mark = Mark::decode(&body);
        let since = match self.place {
            Place::Seen { version: seen, since } if seen == version => since,
            _ => Instant::now(),
        };
        let ours = mark.as_ref().is_some_and(|mark| mark.holder == self.holder);
        if !ours && since.elapsed() < self.takeover() {
            self.place = Place::Seen { version, since };
            return Ok(());
        }
        match mark {
            Some(mark) => self.carry_on(version, mark).await,
            // What an older program left, and nobody moves any more.
            None => self.begin(Condition::Version(version)).await,
        }
    }

    /// Nobody knows up to where copies were dropped: all are.
    async fn begin(&mut self, expected: Condition) -> Result<()> {
        let (news, mark) = (News::everything(), self.mark(Version::NONE, self.source.end().await?));
        self.drop_farther(&news).await?;
        self.drop_near(expected, mark.clone(), &news, mark).await
    }

    /// Drops what changed behind the place, and moves the mark. What it proves is dated by the version
    /// that it had before the changes were read.
    async fn carry_on(&mut self, version: Version, before: Mark) -> Result<()> {
        let (notices, next) = match self.source.since(&self.space.namespace, &before.place).await? {
            Some(read) => read,
            None => (vec![Notice::Lost], self.source.end().await?),
        };
        let (news, mark) = (News::of(&notices), self.mark(version, next));
        self.drop_farther(&news).await?;
        self.drop_near(Condition::Version(version), before, &news, mark).await
    }

    /// Drops the news from all tiers but the nearest, far to near.
    async fn drop_farther(&self, news: &News<'_>) -> Result<()> {
        for tier in self.tiers.iter().skip(1).rev() {
            self.drop_from(tier, news).await?;
        }
        Ok(())
    }

    /// Drops the news from the nearest tier and moves the mark there.
    async fn drop_near(
        &mut self,
        expected: Condition,
        before: Mark,
        news: &News<'_>,
        mark: Mark,
    ) -> Result<()> {
        let nearest = self.tiers.first().ok_or_else(no_tier)?;
        let tier = self.open(nearest, None)?;
        let (reply, mark) = match tier.publish() {
            Some(publish) => (self.publish(publish, expected, before, news, &mark).await?, mark),
            None => {
                self.drop_from(nearest, news).await?;
                let mark = Mark { certified: Version::NONE, ..mark };
                (self.put(expected, mark.encode()).await?, mark)
            }
        };
        self.place = match reply {
            Reply::Kept(version) => Place::Held { version, mark },
            _ => Place::Seen { version: Version::NONE, since: Instant::now() },
        };
        Ok(())
    }

    /// Drops and moves in one step; what is more than one step goes ahead, in steps whose mark says
    /// what it said before.
    async fn publish(
        &self,
        publish: &dyn Publish,
        mut expected: Condition,
        before: Mark,
        news: &News<'_>,
        mark: &Mark,
    ) -> Result<Reply> {
        let (clears, mut drops) = news.clears_and_drops(&self.space.namespace);
        let publication = |expected, mark: &Mark, clears, drops| Publication {
            mark: Mark::key(&self.space.namespace),
            expected,
            body: mark.encode(),
            drops,
            clears,
            mark_ttl: self.mark_ttl,
        };
        let before = Mark { holder: self.holder, ..before };
        while drops.len() > Publication::MAX_DROPS {
            let page = drops.split_off(drops.len() - Publication::MAX_DROPS);
            match publish.publish(publication(expected, &before, Vec::new(), page)).await? {
                Reply::Kept(version) => expected = Condition::Version(version),
                refused => return Ok(refused),
            }
        }
        publish.publish(publication(expected, mark, clears, drops)).await
    }

    fn mark(&self, certified: Version, place: Bytes) -> Mark {
        Mark { holder: self.holder, certified, place }
    }

    /// Moves the mark of a tier that cannot do so in one step with the drops: it certifies nothing.
    async fn put(&self, expected: Condition, body: Bytes) -> Result<Reply> {
        let (tier, key) = self.mark_cell()?;
        let put = Op::Put {
            order: Order::Author(expected),
            deadlines: Deadlines::forever(Timestamp::default()),
            body: Some(body),
            mark_ttl: self.mark_ttl,
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
            let drops = stale.drops(&self.space.namespace, tenant);
            let drop = |(key, version)| (key, Op::Invalidate { version, mark_ttl: self.mark_ttl });
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
        backend.open(&Space { tenant: tenant.map(str::to_owned), budget: *budget, ..self.space.clone() })
    }

    /// Where the mark is kept.
    fn mark_cell(&self) -> Result<(Arc<dyn Tier>, TierKey)> {
        let (backend, budget) = self.tiers.first().ok_or_else(no_tier)?;
        let space = Mark::space(&Space { budget: *budget, ..self.space.clone() });
        Ok((backend.open(&space)?, Mark::key(&self.space.namespace)))
    }
}

fn no_tier() -> Error {
    Error::new(ErrorKind::Config, "a relay without a tier")
}
