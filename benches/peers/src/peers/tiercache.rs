//! tiercache: its own LRU before a level over the raw Redis client, which its documentation leaves to the user.

use std::sync::Arc;

use redis::{AsyncCommands, aio::MultiplexedConnection};
use tiercache::{BoxError, BoxFuture, Cache, CacheStore, Lru};

use crate::{
    Error, Result,
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
    name: "tiercache",
    package: "tiercache",
    leaves_out: "single flight, lives of near copies, fences, versions, log",
};

/// Its LRU alone.
#[derive(Clone)]
pub struct Local(Arc<Cache>);

/// Levels with Redis as the farthest.
#[derive(Clone)]
pub struct Shared {
    cache: Arc<Cache>,
    prefix: String,
}

/// The level over Redis.
struct RedisLevel(MultiplexedConnection);

impl CacheStore for RedisLevel {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, BoxError>> {
        Box::pin(async move { Ok(self.0.clone().get(key).await?) })
    }

    fn put<'a>(&'a self, key: &'a str, value: &'a [u8]) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move { Ok(self.0.clone().set_ex(key, value, TTL_SECS).await?) })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move { Ok(self.0.clone().del(key).await?) })
    }
}

impl Local {
    /// An LRU of so many entries.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self(Arc::new(Cache::new(vec![Box::new(Lru::new(entries))])))
    }
}

impl Near for Local {
    async fn get(&self, key: &str) -> Option<u64> {
        let found = self.0.get(key).await?;
        postcard::from_bytes::<Page>(&found).ok().map(|page| page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.put(key, &postcard::to_stdvec(&page)?).await;
        Ok(())
    }
}

impl NearLoad for Local {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        let load = || async { Ok::<_, Error>(postcard::to_stdvec(&Page::new(number))?) };
        let found = self.0.get_or_compute(key, load).await?;
        Ok(postcard::from_bytes::<Page>(&found)?.number)
    }
}

/// Reads through its LRU and Redis.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "get_or_compute, Lru + redis",
    connect: |place| boxed(async move { Shared::layered(&place).await }),
};

impl Shared {
    /// Redis alone.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn redis_alone(place: &Place) -> Result<Self> {
        Self::over(place, Vec::new()).await
    }

    /// An LRU before Redis.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn layered(place: &Place) -> Result<Self> {
        Self::over(place, vec![Box::new(Lru::new(KEYS))]).await
    }

    async fn over(place: &Place, mut levels: Vec<Box<dyn CacheStore>>) -> Result<Self> {
        let client = redis::Client::open(place.url.as_str())?;
        levels.push(Box::new(RedisLevel(client.get_multiplexed_async_connection().await?)));
        Ok(Self { cache: Arc::new(Cache::new(levels)), prefix: format!("tiercache:{}", place.namespace) })
    }

    fn key(&self, n: usize) -> String {
        format!("{}:{}", self.prefix, key(n))
    }
}

impl Remote for Shared {
    async fn get(&self, n: usize) -> Result<u64> {
        let found = self.cache.get(&self.key(n)).await.ok_or("a key is missing")?;
        Ok(User::decode(&found)?.id)
    }

    async fn put(&self, n: usize) -> Result<()> {
        self.cache.put(&self.key(n), &User::new(n).encode()?).await;
        Ok(())
    }
}

impl ReadThrough for Shared {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let load = || async move { loader.load(n).await?.encode() };
        let found = self.cache.get_or_compute(&self.key(n), load).await?;
        Ok(User::decode(&found)?.id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        Ok(self.cache.delete(&self.key(n)).await?)
    }
}
