//! cached: its sharded LRU in memory, and its Redis store, each alone: it composes no tiers.

use std::{sync::Arc, time::Duration};

use cached::{AsyncRedisCache, ConcurrentCachedAsync, ShardedLruCache};

use crate::{
    Result,
    data::{Page, TTL_SECS, User, key},
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
    name: "cached",
    package: "cached",
    leaves_out: "composed tiers, single flight of these stores, fences, versions, log",
};

/// Its sharded LRU.
#[derive(Clone)]
pub struct Local(Arc<ShardedLruCache<String, Arc<Page>>>);

/// Its Redis store, in MessagePack.
#[derive(Clone)]
pub struct Shared(AsyncRedisCache<String, User>);

impl Local {
    /// An LRU of so many entries.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self(Arc::new(ShardedLruCache::new(entries)))
    }
}

impl Near for Local {
    async fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).map(|page| page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.set(key.to_owned(), Arc::new(page));
        Ok(())
    }
}

impl NearLoad for Local {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        Ok(self.0.get_or_set_with(key.to_owned(), || Arc::new(Page::new(number))).number)
    }
}

/// Reads through its Redis store: a get, and after a load a set.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "AsyncRedisCache, get and set, no near tier",
    connect: |place| boxed(async move { Shared::connect(&place).await }),
};

impl Shared {
    /// Connects to Redis.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(place: &Place) -> Result<Self> {
        let builder = AsyncRedisCache::builder(place.namespace.clone()).connection_string(&place.url);
        Ok(Self(builder.ttl(Duration::from_secs(TTL_SECS)).build().await?))
    }
}

impl Remote for Shared {
    async fn get(&self, n: usize) -> Result<u64> {
        let found = self.0.async_cache_get(&key(n)).await?;
        found.map(|user| user.id).ok_or_else(|| "a key is missing".into())
    }

    async fn put(&self, n: usize) -> Result<()> {
        self.0.async_cache_set(key(n), User::new(n)).await?;
        Ok(())
    }
}

impl ReadThrough for Shared {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        if let Some(user) = self.0.async_cache_get(&key(n)).await? {
            return Ok(user.id);
        }
        let user = loader.load(n).await?;
        let id = user.id;
        self.0.async_cache_set(key(n), user).await?;
        Ok(id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        self.0.async_cache_delete(&key(n)).await?;
        Ok(())
    }
}
