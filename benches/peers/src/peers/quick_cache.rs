//! quick_cache alone, and its `get_or_insert_async` over the two commands of the raw Redis client.

use std::{convert::Infallible, sync::Arc};

use quick_cache::sync::Cache;

use super::redis::Raw;
use crate::{
    Result,
    data::{KEYS, Page, User, key},
    peer::Peer,
    work::{
        loaders::Loader,
        near::{Near, NearLoad},
        read_through::{Candidate, Place, ReadThrough, boxed},
        remote::Remote,
    },
};

/// What is said of quick_cache alone.
pub const PEER: Peer = Peer {
    name: "quick_cache",
    package: "quick_cache",
    leaves_out: "lives (entries never end), shared tiers",
};

/// What is said of quick_cache over Redis.
pub const OVER_REDIS: Peer = Peer {
    name: "quick_cache + redis",
    package: "quick_cache",
    leaves_out: "lives of near copies, fences in Redis, versions, log",
};

/// `quick_cache::sync::Cache`.
#[derive(Clone)]
pub struct Local(Arc<Cache<String, Arc<Page>>>);

/// `quick_cache::sync::Cache` over Redis.
#[derive(Clone)]
pub struct OverRedis {
    near: Arc<Cache<String, Arc<User>>>,
    redis: Raw,
}

impl Local {
    /// A cache that holds so many entries.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self(Arc::new(Cache::new(entries)))
    }
}

impl Near for Local {
    async fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).map(|page| page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.insert(key.to_owned(), Arc::new(page));
        Ok(())
    }
}

impl NearLoad for Local {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        let load = async { Ok::<_, Infallible>(Arc::new(Page::new(number))) };
        Ok(self.0.get_or_insert_async(key, load).await?.number)
    }
}

/// Reads through the near cache and the raw client.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &OVER_REDIS,
    usage: "get_or_insert_async",
    connect: |place| boxed(async move { OverRedis::connect(&place).await }),
};

impl OverRedis {
    /// Connects to Redis.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(place: &Place) -> Result<Self> {
        Ok(Self { near: Arc::new(Cache::new(KEYS)), redis: Raw::connect(place).await? })
    }
}

impl ReadThrough for OverRedis {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let load = async { self.redis.find_or_load(n, loader).await.map(Arc::new) };
        self.near.get_or_insert_async(&key(n), load).await.map(|user| user.id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        self.redis.delete(n).await?;
        self.near.remove(&key(n));
        Ok(())
    }
}

impl Remote for OverRedis {
    async fn get(&self, n: usize) -> Result<u64> {
        Remote::get(&self.redis, n).await
    }

    async fn put(&self, n: usize) -> Result<()> {
        let user = Arc::new(User::new(n));
        self.redis.set(n, &user).await?;
        self.near.insert(key(n), user);
        Ok(())
    }
}
