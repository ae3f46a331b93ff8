//! The relay: carries what a log tells of the truth into the shared cache tiers, for all processes.
//!
//! A writer changes the copies itself once its write has committed. One that dies in between has not,
//! and other programs never do. So one process, whoever holds the place, reads the truth's own log and
//! drops the copies that are older; the tiers' log then tells all near tiers.
//!
//! The place up to which that was done is a cell in the nearest tier, so that it is lost or goes back
//! in time together with the copies. It is taken and moved by compare-and-set: of two processes that
//! take themselves for the holder one fails, and what it dropped for nothing is read again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    Backend, Condition, Deadlines, Error, ErrorKind, Follower, Level, Notice, Op, Order, Replay, Reply,
    Result, Role, Space, Tier, TierKey, Timestamp, Version, key,
};

/// So often the holder says that it is there, and the others look.
const TICK: Duration = Duration::from_millis(500);
/// A place that nobody has moved for so long is taken over.
const TAKEOVER: Duration = Duration::from_secs(2);
/// What takes longer is tried anew: a tier need not keep a budget by itself.
const STEP: Duration = Duration::from_secs(30);
/// Keys dropped in one call.
const BATCH: usize = 500;
/// The namespace of the places. Its copies are the namespaces of caches.
const PLACES: &str = "terrace.relay";

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

/// What is known of the place.
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
        at: Bytes,
        moved: Instant,
    },
}

/// What is old of one tenant's copies.
#[derive(Default)]
struct Stale<'a> {
    all: bool,
    /// Each with the version from which on copies may stay.
    keys: HashMap<&'a Bytes, Option<Version>>,
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
        let mut failed = false;
        while let Some(waiting) = wake.upgrade() {
            let woken = match self.place {
                Place::Unknown if !failed => true,
                _ => timeout(TICK, waiting.changed.notified()).await.is_ok(),
            };
            drop(waiting);
            let step = timeout(STEP, self.step(woken)).await.unwrap_or_else(|_| Err(Error::timeout(STEP)));
            if let Err(error) = &step {
                tracing::debug!(%error, cache = %self.space.namespace, "the relay could not go on; it tries again");
                self.place = Place::Unknown;
            }
            failed = step.is_err();
            if let (Place::Held { .. } | Place::Seen { .. }, Some(wake)) = (&self.place, wake.upgrade()) {
                wake.begin();
            }
        }
    }

    async fn step(&mut self, woken: bool) -> Result<()> {
        match &self.place {
            Place::Held { version, at, moved } if woken || moved.elapsed() >= TICK => {
                let (version, at) = (*version, at.clone());
                self.carry_on(version, at).await
            }
            Place::Held { .. } => Ok(()),
            Place::Seen { .. } if woken => Ok(()),
            Place::Unknown | Place::Seen { .. } => self.look().await,
        }
    }

    /// Looks who holds the place, and takes it where nobody does.
    async fn look(&mut self) -> Result<()> {
        let (tier, key) = self.cell()?;
        let found = match tier.apply(&key, Op::Get).await? {
            Reply::Hit(stored) => stored.body.and_then(|body| Some((stored.version, place_in(&body)?))),
            _ => None,
        };
        let Some((version, (holder, at))) = found else { return self.begin().await };
        let since = match self.place {
            Place::Seen { version: seen, since } if seen == version => since,
            _ => Instant::now(),
        };
        if holder == self.holder || since.elapsed() >= TAKEOVER {
            return self.carry_on(version, at).await;
        }
        self.place = Place::Seen { version, since };
        Ok(())
    }

    /// Nobody knows up to where copies were dropped: all are.
    async fn begin(&mut self) -> Result<()> {
        let at = self.source.end().await?;
        self.apply(&[Notice::Clear { tenant: None }]).await?;
        self.move_to(Condition::Absent, at).await
    }

    /// Drops what changed behind the place, and moves it.
    async fn carry_on(&mut self, version: Version, at: Bytes) -> Result<()> {
        let (notices, next) = match self.source.since(&self.space.namespace, &at).await? {
            Some(read) => read,
            None => {
                let end = self.source.end().await?;
                (vec![Notice::Clear { tenant: None }], end)
            }
        };
        self.apply(&notices).await?;
        self.move_to(Condition::Version(version), next).await
    }

    async fn move_to(&mut self, condition: Condition, at: Bytes) -> Result<()> {
        let (tier, key) = self.cell()?;
        let mut body = BytesMut::with_capacity(8 + at.len());
        body.put_u64(self.holder);
        body.put_slice(&at);
        let put = Op::Put {
            order: Order::Author(condition),
            deadlines: Deadlines::forever(Timestamp::default()),
            body: Some(body.freeze()),
            mark_ttl: self.mark_ttl,
        };
        self.place = match tier.apply(&key, put).await? {
            Reply::Kept(version) => Place::Held { version, at, moved: Instant::now() },
            _ => Place::Seen { version: Version::NONE, since: Instant::now() },
        };
        Ok(())
    }

    /// Drops what `notices` name from every tier, far to near; each must confirm it.
    async fn apply(&self, notices: &[Notice]) -> Result<()> {
        if notices.is_empty() {
            return Ok(());
        }
        let mut tenants: HashMap<Option<&str>, Stale<'_>> = HashMap::new();
        for notice in notices {
            match notice {
                Notice::Key { tenant, key, version } => {
                    let keys = &mut tenants.entry(tenant.as_deref()).or_default().keys;
                    // The newest version; none is newer than any.
                    keys.entry(key)
                        .and_modify(|known| *known = known.zip(*version).map(|(known, new)| known.max(new)))
                        .or_insert(*version);
                }
                Notice::Clear { tenant } => tenants.entry(tenant.as_deref()).or_default().all = true,
                Notice::Lost => tenants.entry(None).or_default().all = true,
            }
        }
        for (backend, budget) in self.tiers.iter().rev() {
            for (tenant, stale) in &tenants {
                let tenant_name = tenant.map(str::to_owned);
                let tier =
                    backend.open(&Space { tenant: tenant_name, budget: *budget, ..self.space.clone() })?;
                if stale.all {
                    tier.clear().await?;
                }
                self.drop_keys(&*tier, *tenant, &stale.keys).await?;
            }
        }
        Ok(())
    }

    async fn drop_keys(
        &self,
        tier: &dyn Tier,
        tenant: Option<&str>,
        keys: &HashMap<&Bytes, Option<Version>>,
    ) -> Result<()> {
        let scope = key::Scope::new(&self.space.namespace, tenant);
        let drops: Vec<(TierKey, Op)> = keys
            .iter()
            .map(|(bytes, version)| {
                let key = TierKey { bytes: Bytes::clone(bytes), digest: scope.digest(bytes) };
                (key, Op::Invalidate { version: *version, mark_ttl: self.mark_ttl })
            })
            .collect();
        for batch in drops.chunks(BATCH) {
            for reply in tier.apply_many(batch.to_vec()).await {
                reply?;
            }
        }
        Ok(())
    }

    /// Where the place is kept.
    fn cell(&self) -> Result<(Arc<dyn Tier>, TierKey)> {
        let Some((backend, budget)) = self.tiers.first() else {
            return Err(Error::new(ErrorKind::Config, "a relay without a tier"));
        };
        let space = Space {
            namespace: PLACES.to_owned(),
            tenant: None,
            role: Role::Cache,
            level: Level::Fenced,
            schema: 0,
            shape: 0,
            budget: *budget,
        };
        let bytes = Bytes::copy_from_slice(self.space.namespace.as_bytes());
        let digest = key::key_digest(PLACES, None, &bytes);
        Ok((backend.open(&space)?, TierKey { bytes, digest }))
    }
}

fn place_in(body: &Bytes) -> Option<(u64, Bytes)> {
    let holder = body.first_chunk::<8>()?;
    Some((u64::from_be_bytes(*holder), body.slice(8..)))
}
