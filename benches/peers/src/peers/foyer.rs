//! foyer: its cache in memory, alone and with `get_or_fetch` over the two commands of the raw Redis client.

use std::{convert::Infallible, sync::Arc};

use foyer::{Cache, CacheBuilder};

use super::{LoadError, redis::Raw};
use crate::{
    Result,
    data::{KEYS, Page, User, key},
    peer::Peer,
    work::{
        loaders::Loader,
        near::{Near, NearLoad},
        read_through::{Candidate, Place, ReadThrough, boxed},
    },
};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "foyer",
    package: "foyer",
    leaves_out: "lives (entries never end), shared tiers, fences (a load overwrites an invalidation)",
};

/// What is said of foyer over Redis.
pub const OVER_REDIS: Peer = Peer {
    name: "foyer + redis",
    package: "foyer",
    leaves_out: "lives of near copies, fences, versions, log",
};

/// Its cache in memory.
#[derive(Clone)]
pub struct Local(Cache<String, Arc<Page>>);

/// Its cache in memory over Redis.
#[derive(Clone)]
pub struct OverRedis {
    near: Cache<String, Arc<User>>,
    redis: Raw,
}

impl Local {
    /// A cache that holds so many entries.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self(CacheBuilder::new(entries).build())
    }
}

impl Near for Local {
    async fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).map(|entry| entry.value().number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.insert(key.to_owned(), Arc::new(page));
        Ok(())
    }
}

impl NearLoad for Local {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        let load = || async move { Ok::<_, Infallible>(Arc::new(Page::new(number))) };
        Ok(self.0.get_or_fetch(key, load).await?.value().number)
    }
}

/// Reads through foyer and the raw client.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &OVER_REDIS,
    usage: "get_or_fetch",
    connect: |place| boxed(async move { OverRedis::connect(&place).await }),
};

impl OverRedis {
    /// Connects to Redis.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(place: &Place) -> Result<Self> {
        Ok(Self { near: CacheBuilder::new(KEYS).build(), redis: Raw::connect(place).await? })
    }
}

impl ReadThrough for OverRedis {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let redis = self.redis.clone();
        let load = || async move { redis.find_or_load(n, loader).await.map(Arc::new).map_err(LoadError) };
        Ok(self.near.get_or_fetch(&key(n), load).await?.value().id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        self.redis.delete(n).await?;
        self.near.remove(&key(n));
        Ok(())
    }
}
