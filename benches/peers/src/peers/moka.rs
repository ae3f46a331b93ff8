//! moka alone, and moka's `try_get_with` over the two commands of the raw Redis client.

use std::sync::Arc;

use moka::{future, sync};

use super::redis::Raw;
use crate::{
    Error, Result,
    data::{KEYS, Page, User, key},
    peer::Peer,
    work::{
        loaders::Loader,
        near::{Near, NearLoad},
        read_through::{Candidate, Place, ReadThrough, boxed},
        remote::Remote,
    },
};

/// What is said of moka alone.
pub const PEER: Peer = Peer {
    name: "moka",
    package: "moka",
    leaves_out: "shared tiers, fences (a load overwrites an invalidation)",
};

/// What is said of moka over Redis.
pub const OVER_REDIS: Peer = Peer {
    name: "moka + redis",
    package: "moka",
    leaves_out: "fences, versions, log (other processes' near copies stay old)",
};

/// `moka::sync::Cache`.
pub struct SyncCache(sync::Cache<String, Arc<Page>>);

/// `moka::future::Cache`.
#[derive(Clone)]
pub struct FutureCache(future::Cache<String, Arc<Page>>);

/// `moka::future::Cache` over Redis.
#[derive(Clone)]
pub struct OverRedis {
    near: future::Cache<String, Arc<User>>,
    redis: Raw,
}

impl SyncCache {
    /// A cache that holds so many entries.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self(sync::Cache::new(entries as u64))
    }
}

impl Near for SyncCache {
    async fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).map(|page| page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.insert(key.to_owned(), Arc::new(page));
        Ok(())
    }
}

impl FutureCache {
    /// A cache that holds so many entries.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self(future::Cache::new(entries as u64))
    }
}

impl Near for FutureCache {
    async fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).await.map(|page| page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.insert(key.to_owned(), Arc::new(page)).await;
        Ok(())
    }
}

impl NearLoad for FutureCache {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        Ok(self.0.get_with_by_ref(key, async move { Arc::new(Page::new(number)) }).await.number)
    }
}

/// Reads through the near cache and the raw client.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &OVER_REDIS,
    usage: "try_get_with",
    connect: |place| boxed(async move { OverRedis::connect(&place).await }),
};

impl OverRedis {
    /// Connects to Redis.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(place: &Place) -> Result<Self> {
        Ok(Self { near: future::Cache::new(KEYS as u64), redis: Raw::connect(place).await? })
    }
}

impl ReadThrough for OverRedis {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let load = async { self.redis.find_or_load(n, loader).await.map(Arc::new) };
        let user = self.near.try_get_with(key(n), load).await;
        user.map(|user| user.id).map_err(|error: Arc<Error>| error.to_string().into())
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        self.redis.delete(n).await?;
        self.near.invalidate(&key(n)).await;
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
        self.near.insert(key(n), user).await;
        Ok(())
    }
}
