//! What level `Bounded` costs: the mark and the epoch, read with every copy in Redis.

use std::time::Duration;

use terrace::{
    Backend, Cache, Level, NoNear, Version,
    tier::{Condition, Namespace, Publication, Role, Watermark},
};
use terrace_testbed::unique_name;

use crate::{
    Effort, Result,
    callers::{Work, throughputs},
    data::{KEYS, User, key, scattered},
    remote::{LIFE_SECS, connect, put_all},
    row::{Row, Target, Unit},
};

/// `cache.get` at one level, of a cache with a connection of its own.
#[derive(Clone)]
struct GetAt(Cache<String, User, NoNear>);

impl GetAt {
    /// With a relay's mark beside the copies, which is read at level `Bounded`.
    async fn new(url: &str, level: Level) -> Result<Self> {
        let namespace = unique_name("level");
        let mark =
            Watermark { relay: 1, version: Version::MAX, position: "a place of a usual length".into() };
        let relay = terrace::Redis::builder(url).allow_plaintext().build()?;
        let space = Namespace::new(namespace.clone(), Role::Cache).with_budget(Duration::from_secs(5));
        let publication = Publication::new(
            Watermark::key(&namespace),
            Condition::Absent,
            mark.encode(),
            Duration::from_secs(60),
        );
        relay.open(&space)?.publish().ok_or("Redis keeps marks")?.publish(publication).await?;
        let cache = connect(url, namespace, level).await?;
        for start in (0..KEYS).step_by(500) {
            put_all(&cache, start..start + 500).await?;
        }
        Ok(Self(cache))
    }
}

impl Work for GetAt {
    async fn run(&self, n: usize) -> Result<()> {
        let found = self.0.get(&key(scattered(n))).await?;
        found.map(drop).ok_or_else(|| "a key is missing from the cache".into())
    }
}

/// The rows of this group: throughput to throughput.
///
/// # Errors
/// The server's.
pub async fn rows(effort: Effort, url: &str, say: &mut dyn FnMut(Row)) -> Result<()> {
    let bounded = GetAt::new(url, Level::Bounded(Duration::from_secs(LIFE_SECS))).await?;
    for (name, level) in [("Ttl", Level::Ttl), ("Fenced", Level::Fenced)] {
        let (other, control) = (GetAt::new(url, level).await?, GetAt::new(url, level).await?);
        for (callers, least) in [(1, None), (64, Some(1.0 / 1.15))] {
            let rounds = throughputs((&bounded, &other, &control), callers, effort).await?;
            let name = format!("get Bounded / get {name}, callers {callers}");
            say(Row::new("redis", name, Unit::Thousands, &rounds, least.map(Target::AtLeast)));
        }
    }
    Ok(())
}
