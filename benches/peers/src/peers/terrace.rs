//! terrace, as an application uses it at its default level `Fenced`.

use std::{convert::Infallible, time::Duration};

use sqlx::PgPool;
use terrace::{
    Builder, Cache, Lease, Memory, MissingKeys, NoNear, Postgres, Quick, TierSettings, Ttl,
    near::Near as NearTier,
};

use crate::{
    Result,
    data::{KEYS, Page, TTL_SECS, User, key},
    peer::Peer,
    work::{
        batch::Batch,
        loaders::Loader,
        near::{Near, NearLoad},
        read_through::{Candidate, Place, ReadThrough, boxed},
        remote::Remote,
    },
};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "terrace",
    package: "terrace",
    leaves_out: "nothing: the figures include fences, versions and the log",
};

/// How long a call of a tier may take: long, so that a slow turn of the machine is measured and not cut off. The
/// row `outage` shows that a lost server is noticed nevertheless.
const BUDGET: Duration = Duration::from_secs(5);

/// A cache with a near tier alone.
pub struct Local<N>(Cache<String, Page, N>);

/// A cache with Redis, and a near tier if `N` is one.
pub struct Shared<N>(Cache<String, User, N>);

// Near tiers need not be `Clone` themselves.
impl<N> Clone for Local<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<N> Clone for Shared<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A cache with Redis, and `Memory` before it.
pub type Layered = Shared<Memory<String, User>>;

/// A cache over `Memory`, which holds so many entries.
///
/// # Errors
/// The builder refuses.
pub fn memory(entries: usize) -> Result<Local<Memory<String, Page>>> {
    local(Memory::entries(entries as u64))
}

/// A cache over `Quick`, which holds so many entries.
///
/// # Errors
/// The builder refuses.
pub fn quick(entries: usize) -> Result<Local<Quick<String, Page>>> {
    local(Quick::entries(entries))
}

fn local<N: NearTier<String, Page>>(near: N) -> Result<Local<N>> {
    Ok(Local(Cache::builder("pages").near(near).expire(Ttl::secs(TTL_SECS)).build()?))
}

impl<N: NearTier<String, Page>> Near for Local<N> {
    async fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).await.ok().flatten().map(|page| page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        self.0.put(key, page).await?;
        Ok(())
    }
}

impl<N: NearTier<String, Page>> NearLoad for Local<N> {
    async fn get_or_load(&self, key: &str, number: usize) -> Result<u64> {
        let load = move || async move { Ok::<_, Infallible>(Page::new(number)) };
        Ok(self.0.get_or_load(key, load).await?.number)
    }
}

/// Reads through `Memory` and Redis.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "get_or_load, Memory + Redis",
    connect: |place| boxed(async move { memory_and_redis(&place).await }),
};

/// Reads through `Memory` and Redis, with one load among all processes.
pub const READ_THROUGH_LEASE: Candidate = Candidate {
    peer: &PEER,
    usage: "get_or_load, Memory + Redis, stampede(Lease)",
    connect: |place| boxed(async move { memory_and_redis_with_leases(&place).await }),
};

/// A cache over Redis without a near tier.
///
/// # Errors
/// The server is not there.
pub async fn redis_alone(place: &Place) -> Result<Shared<NoNear>> {
    shared(place, NoNear).await
}

/// A cache over Redis with `Memory` before it.
///
/// # Errors
/// The server is not there.
pub async fn memory_and_redis(place: &Place) -> Result<Layered> {
    shared(place, Memory::entries(KEYS as u64)).await
}

async fn memory_and_redis_with_leases(place: &Place) -> Result<Layered> {
    ready(over_redis(place, Memory::entries(KEYS as u64))?.stampede(Lease)).await
}

/// A cache with a store over the pool, without other tiers.
///
/// # Errors
/// The server is not there.
pub async fn store(pool: PgPool, namespace: String) -> Result<Shared<NoNear>> {
    ready(Cache::builder(namespace).near(NoNear).store(Postgres::from_pool(pool).budget(BUDGET))).await
}

/// A cache over Redis with `Memory` before it and a store over the pool behind it.
///
/// # Errors
/// A server is not there.
pub async fn three_tiers(place: &Place, pool: PgPool) -> Result<Layered> {
    let store = Postgres::from_pool(pool).budget(BUDGET);
    ready(over_redis(place, Memory::entries(KEYS as u64))?.store(store)).await
}

/// Puts records of these numbers into a store, past all copies.
///
/// # Errors
/// Errors of the server.
pub async fn put_records(pool: PgPool, namespace: &str, count: usize) -> Result<()> {
    let cache = store(pool, namespace.to_owned()).await?;
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(500) {
        cache.put_many(numbers).await?;
    }
    cache.0.close().await;
    Ok(())
}

async fn shared<N: NearTier<String, User>>(place: &Place, near: N) -> Result<Shared<N>> {
    ready(over_redis(place, near)?).await
}

fn over_redis<N: NearTier<String, User>>(place: &Place, near: N) -> Result<Builder<String, User, N>> {
    let tier = terrace::Redis::builder(&place.url).allow_plaintext().build()?.budget(BUDGET);
    Ok(Cache::builder(place.namespace.clone()).near(near).tier(tier).expire(Ttl::secs(TTL_SECS)))
}

async fn ready<N: NearTier<String, User>>(builder: Builder<String, User, N>) -> Result<Shared<N>> {
    let cache = builder.build()?;
    cache.ready().await?;
    Ok(Shared(cache))
}

impl<N: NearTier<String, User>> Remote for Shared<N> {
    async fn get(&self, n: usize) -> Result<u64> {
        let found = self.0.get(&key(n)).await?;
        found.map(|user| user.id).ok_or_else(|| "a key is missing".into())
    }

    async fn put(&self, n: usize) -> Result<()> {
        self.0.put(&key(n), User::new(n)).await?;
        Ok(())
    }
}

impl<N: NearTier<String, User>> ReadThrough for Shared<N> {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let load = || async move { loader.load(n).await };
        Ok(self.0.get_or_load(&key(n), load).await?.id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        self.0.invalidate(&key(n)).await?;
        Ok(())
    }

    async fn settle(&self) {
        self.0.settled().await;
    }
}

impl<N: NearTier<String, User>> Batch for Shared<N> {
    async fn get_many(&self, numbers: &[usize]) -> Result<Vec<u64>> {
        let keys: Vec<String> = numbers.iter().copied().map(key).collect();
        let found = self.0.get_many(&keys).await.into_values()?;
        Ok(found.into_iter().flatten().map(|user| user.id).collect())
    }

    async fn put_many(&self, numbers: &[usize]) -> Result<()> {
        let users = numbers.iter().map(|n| (key(*n), User::new(*n)));
        for put in self.0.put_many(users).await {
            put?;
        }
        Ok(())
    }

    async fn get_or_load_many(&self, numbers: &[usize]) -> Result<Vec<u64>> {
        let keys: Vec<String> = numbers.iter().copied().map(key).collect();
        let numbers = numbers.to_vec();
        let load = move |missing: MissingKeys<String>| async move {
            let users: Vec<User> = missing.indices().iter().map(|at| User::new(numbers[*at])).collect();
            Ok::<_, Infallible>(missing.zip(users))
        };
        let found = self.0.get_or_load_many(&keys, load).await.into_values()?;
        Ok(found.into_iter().flatten().map(|user| user.id).collect())
    }

    async fn settle(&self) {
        self.0.settled().await;
    }
}
