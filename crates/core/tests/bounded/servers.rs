//! A shared tier in front of a store, and a relay that the test steps by hand.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_conformance::Fake;
use terrace_core::{Backend, Builder, Level, Source, Version};
use terrace_tier::{
    Clock, Condition, Invalidation, ManualClock, Namespace, Publication, Reply, Role, Tier, TierKey,
    Watermark,
};

use crate::support::{Near, ReplayableStore, Stack, fake, ms, pass, without_near};

pub(crate) const BOUND: Duration = Duration::from_millis(500);
pub(crate) const LEVEL: Level = Level::Bounded(BOUND);

pub(crate) const TIER: Source = Source::Tier("redis");
pub(crate) const STORE: Source = Source::Store("db");

/// A shared tier in front of a store, and the relay between them.
pub(crate) struct Servers {
    pub(crate) hand: ManualClock,
    pub(crate) redis: Fake,
    pub(crate) db: Fake,
    pub(crate) relay: Relay,
    /// Commits to the store and dies before any log or relay reports it.
    pub(crate) writer: Stack,
}

/// A relay that publishes the changes that the test names.
pub(crate) struct Relay {
    tier: Arc<dyn Tier>,
    pub(crate) watermark: Option<Version>,
}

impl Relay {
    fn new(redis: &Fake) -> Self {
        let namespace = Namespace::new("tests", Role::Cache).with_level(LEVEL).with_budget(ms(50));
        Self { tier: redis.another_handle().open(&namespace).unwrap(), watermark: None }
    }

    /// Drops `keys` and advances the watermark. Returns false if another relay has advanced it.
    pub(crate) async fn publish(&mut self, keys: &[&str]) -> bool {
        let drops = keys.iter().map(|key| {
            let bytes = Bytes::copy_from_slice(key.as_bytes());
            Invalidation { tenant: None, key: TierKey { bytes, digest: [0; 16] }, version: None }
        });
        let version = self.watermark.unwrap_or(Version::NONE);
        let publication = Publication::new(
            Watermark::key("tests"),
            self.watermark.map_or(Condition::Absent, Condition::Version),
            Watermark { relay: 1, version, position: Bytes::new() }.encode(),
            ms(60_000),
        )
        .with_drops(drops.collect())
        .with_clears(if self.watermark.is_none() { vec![None] } else { Vec::new() });
        match self.tier.publish().unwrap().publish(publication).await.unwrap() {
            Reply::Kept(version) => self.watermark = Some(version),
            Reply::Refused(None) => return false,
            other => panic!("{other:?}"),
        }
        true
    }
}

pub(crate) fn servers() -> Servers {
    let hand = Clock::manual();
    let (redis, db) = (fake("redis", &hand).with_log(), fake("db", &hand));
    let writer =
        without_near().clock(&hand).level(LEVEL).store(ReplayableStore(db.another_handle())).build().unwrap();
    Servers { relay: Relay::new(&redis), hand, redis, db, writer }
}

impl Servers {
    pub(crate) fn process(&self, builder: Builder<String, u64, Near>) -> Stack {
        let builder = builder.clock(&self.hand).level(LEVEL);
        builder
            .tier(self.redis.another_handle())
            .store(ReplayableStore(self.db.another_handle()))
            .build()
            .unwrap()
    }

    /// Lets 40 ms pass, in which the relay works and finds that `keys` have changed.
    pub(crate) async fn relayed(&mut self, keys: &[&str]) {
        for at in 0..4 {
            pass(&self.hand, ms(10)).await;
            self.redis.log().beat();
            assert!(self.relay.publish(if at == 0 { keys } else { &[] }).await);
        }
        self.redis.log().beat();
    }

    /// Writes 1 and lets these processes read and keep it.
    pub(crate) async fn copied_to(&mut self, caches: &[&Stack]) {
        self.writer.put("k", 1).await.unwrap();
        self.relayed(&[]).await;
        for cache in caches {
            read(cache, "k").await;
            cache.settled().await;
        }
    }

    /// Lets `time` pass, in which the relay does nothing while heartbeats of the log go on.
    pub(crate) async fn unrelayed(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(ms(50));
            pass(&self.hand, step).await;
            self.redis.log().beat();
            left -= step;
        }
    }
}

pub(crate) async fn read(cache: &Stack, key: &str) -> Option<(u64, Source)> {
    cache.get(key).await.unwrap().map(|value| (*value, value.served().from))
}

/// The tier has a copy of 1 that is not proven any more; the store has 2.
pub(crate) async fn with_an_old_copy(builder: Builder<String, u64, Near>) -> (Servers, Stack) {
    let mut servers = servers();
    let here = servers.process(builder);
    for key in ["k", "l"] {
        servers.writer.put(key, 1).await.unwrap();
        servers.relayed(&[]).await;
        read(&here, key).await;
    }
    here.settled().await;
    servers.unrelayed(BOUND * 3).await;
    for key in ["k", "l"] {
        servers.writer.put(key, 2).await.unwrap();
    }
    (servers, here)
}
