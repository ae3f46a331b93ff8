//! multi-tier-cache: its moka tier before its Redis tier, typed calls, JSON as is its default.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use multi_tier_cache::{
    CacheStrategy, CacheSystem, CacheSystemBuilder, L1Cache, L2Cache, MokaCacheConfig, TierConfig,
    error::CacheError,
};

use crate::{
    Result,
    data::{KEYS, Page, TTL_SECS, User, key},
    peer::Peer,
    work::{
        loaders::Loader,
        near::{Near, NearLoad},
        read_through::{Candidate, Place, ReadThrough, boxed},
        remote::Remote,
    },
};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "multi-tier-cache",
    package: "multi-tier-cache",
    leaves_out: "fences, versions, a log that is caught up with, single flight among processes",
};

const TTL: Duration = Duration::from_secs(TTL_SECS);
const STRATEGY: fn() -> CacheStrategy = || CacheStrategy::Custom(TTL);

/// A system of tiers.
#[derive(Clone)]
pub struct Tiers {
    system: Arc<CacheSystem>,
    prefix: String,
}

/// Its moka tier of so many entries alone.
///
/// # Errors
/// The builder refuses.
pub async fn local(entries: usize) -> Result<Tiers> {
    let builder = CacheSystemBuilder::new().with_tier(memory(entries)?, TierConfig::as_l1());
    Tiers::of(builder, String::new()).await
}

fn memory(entries: usize) -> Result<Arc<L1Cache>> {
    let config = MokaCacheConfig { max_capacity: entries as u64, time_to_live: TTL, time_to_idle: TTL };
    Ok(Arc::new(L1Cache::new(config)?))
}

/// Redis alone.
///
/// # Errors
/// The server is not there.
pub async fn redis_alone(place: &Place) -> Result<Tiers> {
    let redis = Arc::new(L2Cache::with_url(&place.url).await?);
    let builder = CacheSystemBuilder::new().with_tier(redis, TierConfig::as_l1());
    Tiers::of(builder, format!("multi:{}:", place.namespace)).await
}

/// moka before Redis.
///
/// # Errors
/// The server is not there.
pub async fn layered(place: &Place) -> Result<Tiers> {
    let redis = Arc::new(L2Cache::with_url(&place.url).await?);
    let builder = CacheSystemBuilder::new().with_tier(memory(KEYS)?, TierConfig::as_l1());
    let builder = builder.with_tier(redis, TierConfig::as_l2());
    Tiers::of(builder, format!("multi:{}:", place.namespace)).await
}

/// Reads through moka and Redis.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "get_or_compute_typed, moka + redis, JSON",
    connect: |place| boxed(async move { layered(&place).await }),
};

impl Tiers {
    async fn of(builder: CacheSystemBuilder, prefix: String) -> Result<Self> {
        Ok(Self { system: Arc::new(builder.build().await?), prefix })
    }

    fn key(&self, n: usize) -> String {
        format!("{}{}", self.prefix, key(n))
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Bytes> {
    Ok(serde_json::to_vec(value)?.into())
}

impl Near for Tiers {
    async fn get(&self, key: &str) -> Option<u64> {
        let page = self.system.cache_manager().get_typed::<Page>(key).await.ok().flatten();
        page.map(|page| page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        Ok(self.system.cache_manager().set_with_strategy(key, json(&page)?, STRATEGY()).await?)
    }
}

impl NearLoad for Tiers {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        let load = || async move { Ok(Page::new(number)) };
        let page = self.system.cache_manager().get_or_compute_typed(key, STRATEGY(), load).await?;
        Ok(page.number)
    }
}

impl Remote for Tiers {
    async fn get(&self, n: usize) -> Result<u64> {
        let user = self.system.cache_manager().get_typed::<User>(&self.key(n)).await?;
        user.map(|user| user.id).ok_or_else(|| "a key is missing".into())
    }

    async fn put(&self, n: usize) -> Result<()> {
        let user = json(&User::new(n))?;
        Ok(self.system.cache_manager().set_with_strategy(&self.key(n), user, STRATEGY()).await?)
    }
}

impl ReadThrough for Tiers {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let load = || async move {
            loader.load(n).await.map_err(|error| CacheError::InternalError(error.to_string()))
        };
        let user = self.system.cache_manager().get_or_compute_typed(&self.key(n), STRATEGY(), load).await?;
        Ok(user.id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        Ok(self.system.cache_manager().invalidate(&self.key(n)).await?)
    }
}
