//! The cost of level `Bounded`, which reads a watermark and an epoch with every copy in Redis.

use std::time::Duration;

use terrace::{
    Backend, Cache, Level, NoNear, Version,
    tier::{Condition, Namespace, Publication, Role, Watermark},
};
use terrace_testbed::unique_name;

use crate::{
    Effort, Result,
    data::{KEYS, User, key, scattered},
    measure::{
        callers::{Work, throughputs},
        row::{Row, Target, Unit},
    },
    remote::{TTL_SECS, connect, put_all},
};

/// Calls `cache.get` at one level, on a cache with a connection of its own.
#[derive(Clone)]
struct GetAt(Cache<String, User, NoNear>);

impl GetAt {
    /// Publishes the watermark of a relay, which level `Bounded` reads with every copy.
    async fn new(url: &str, level: Level) -> Result<Self> {
        let name = unique_name("level");
        let watermark =
            Watermark { relay: 1, version: Version::MAX, position: "a position of a usual length".into() };
        let relay = terrace::Redis::builder(url).allow_plaintext().build()?;
        let namespace = Namespace::new(name.clone(), Role::Cache).with_budget(Duration::from_secs(5));
        let publication = Publication::new(
            Watermark::key(&name),
            Condition::Absent,
            watermark.encode(),
            Duration::from_secs(60),
        );
        relay
            .open(&namespace)?
            .publish()
            .ok_or("the Redis tier cannot publish")?
            .publish(publication)
            .await?;
        let cache = connect(url, name, level).await?;
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

/// Measures the rows of this group, as ratios of throughputs.
///
/// # Errors
/// Errors of the server.
pub async fn rows(effort: Effort, url: &str, emit: &mut dyn FnMut(Row)) -> Result<()> {
    let bounded = GetAt::new(url, Level::Bounded(Duration::from_secs(TTL_SECS))).await?;
    for (name, level) in [("Ttl", Level::Ttl), ("Fenced", Level::Fenced)] {
        let (other, control) = (GetAt::new(url, level).await?, GetAt::new(url, level).await?);
        for (callers, least) in [(1, None), (64, Some(1.0 / 1.15))] {
            let rounds = throughputs((&bounded, &other, &control), callers, effort).await?;
            let name = format!("get Bounded / get {name}, callers {callers}");
            emit(Row::new("redis", name, Unit::Thousands, &rounds, least.map(Target::AtLeast)));
        }
    }
    Ok(())
}
