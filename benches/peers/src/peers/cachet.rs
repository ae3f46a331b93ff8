//! cachet: memory before a tier over the `redis` crate's connection manager, with and without its stampede
//! protection. (Its tier for Redis is not on crates.io; this one is written as its documentation says.)

use std::{sync::Arc, time::Duration};

use cachet::{Cache, CacheEntry, CacheTier, Error as CachetError, InsertOutcome};
use redis::{AsyncCommands, aio::ConnectionManager};
use tick::Clock;

use super::loaded;
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
    name: "cachet",
    package: "cachet",
    leaves_out: "fences, versions, log, single flight among processes; a lost Redis fails reads",
};

const TTL: Duration = Duration::from_secs(TTL_SECS);

/// Memory alone.
#[derive(Clone)]
pub struct Local(Arc<Cache<String, Arc<Page>>>);

/// Tiers with Redis as the farthest.
#[derive(Clone)]
pub struct Shared(Arc<Cache<String, Arc<User>>>);

/// The tier over Redis.
#[derive(Clone)]
struct RedisTier {
    connection: ConnectionManager,
    prefix: Arc<str>,
}

impl RedisTier {
    async fn connect(place: &Place) -> Result<Self> {
        let client = redis::Client::open(place.url.as_str())?;
        let connection = client.get_connection_manager().await?;
        Ok(Self { connection, prefix: format!("cachet:{}", place.namespace).into() })
    }

    fn key(&self, key: &str) -> String {
        format!("{}:{key}", self.prefix)
    }
}

impl CacheTier<String, Arc<User>> for RedisTier {
    async fn get(&self, key: &String) -> Result<Option<CacheEntry<Arc<User>>>, CachetError> {
        let mut connection = self.connection.clone();
        let found: Option<Vec<u8>> = connection.get(self.key(key)).await.map_err(CachetError::from_source)?;
        let user = found.map(|bytes| User::decode(&bytes)).transpose().map_err(CachetError::from_source)?;
        Ok(user.map(|user| CacheEntry::expires_after(Arc::new(user), TTL)))
    }

    async fn insert(&self, key: String, entry: CacheEntry<Arc<User>>) -> Result<InsertOutcome, CachetError> {
        let bytes = entry.value().encode().map_err(CachetError::from_source)?;
        let written = self.connection.clone().set_ex::<_, _, ()>(self.key(&key), bytes, TTL_SECS).await;
        written.map_err(CachetError::from_source)?;
        Ok(InsertOutcome::Accepted)
    }

    async fn invalidate(&self, key: &String) -> Result<(), CachetError> {
        self.connection.clone().del::<_, ()>(self.key(key)).await.map_err(CachetError::from_source)
    }

    async fn clear(&self) -> Result<(), CachetError> {
        Err(CachetError::from_message("no row clears"))
    }
}

/// Memory of so many entries, with or without stampede protection.
#[must_use]
pub fn local(entries: usize, protected: bool) -> Local {
    let builder = Cache::builder::<String, Arc<Page>>(Clock::new_tokio());
    let builder = builder.memory_with(|memory| memory.max_capacity(entries as u64)).ttl(TTL);
    Local(Arc::new(if protected { builder.stampede_protection().build() } else { builder.build() }))
}

impl Near for Local {
    async fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).await.ok().flatten().map(|entry| entry.value().number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.insert(key.to_owned(), CacheEntry::new(Arc::new(page))).await?;
        Ok(())
    }
}

impl NearLoad for Local {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        let load = || async move { Arc::new(Page::new(number)) };
        Ok(self.0.get_or_insert(key, load).await?.value().number)
    }
}

/// Reads through memory and Redis, with stampede protection.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "try_get_or_insert, protected, memory + redis",
    connect: |place| boxed(async move { layered(&place).await }),
};

/// Redis alone.
///
/// # Errors
/// The server is not there.
pub async fn redis_alone(place: &Place) -> Result<Shared> {
    let builder = Cache::builder::<String, Arc<User>>(Clock::new_tokio());
    Ok(Shared(Arc::new(builder.storage(RedisTier::connect(place).await?).ttl(TTL).build())))
}

/// Memory before Redis, with stampede protection.
///
/// # Errors
/// The server is not there.
pub async fn layered(place: &Place) -> Result<Shared> {
    let clock = Clock::new_tokio();
    let redis = Cache::builder::<String, Arc<User>>(clock.clone()).storage(RedisTier::connect(place).await?);
    let memory = Cache::builder::<String, Arc<User>>(clock);
    let memory = memory.memory_with(|memory| memory.max_capacity(KEYS as u64)).ttl(TTL);
    Ok(Shared(Arc::new(memory.fallback(redis.ttl(TTL)).stampede_protection().build())))
}

impl Remote for Shared {
    async fn get(&self, n: usize) -> Result<u64> {
        let found = self.0.get(key(n).as_str()).await?;
        found.map(|entry| entry.value().id).ok_or_else(|| "a key is missing".into())
    }

    async fn put(&self, n: usize) -> Result<()> {
        self.0.insert(key(n), CacheEntry::new(Arc::new(User::new(n)))).await?;
        Ok(())
    }
}

impl ReadThrough for Shared {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let load = || async move { loaded(loader, n).await.map(Arc::new) };
        Ok(self.0.try_get_or_insert(key(n).as_str(), load).await?.value().id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        Ok(self.0.invalidate(key(n).as_str()).await?)
    }
}
