//! Redis through the cache, with the near tier off, beside the raw multiplexed client with the same
//! codec.

use std::{ops::Range, time::Duration};

use redis::{AsyncCommands, aio::MultiplexedConnection};
use terrace::{Cache, Level, NoNear, TierSettings, Ttl};
use terrace_testbed::unique_name;

use crate::{
    Effort, Result,
    data::{KEYS, User, key, scattered},
    measure::{
        callers::{Work, throughputs, times},
        row::{Row, Target, Unit},
    },
};

/// How many keys one many-get reads.
pub const BATCH: usize = 100;

/// The time to live of the copies of both sides, in seconds.
pub const TTL_SECS: u64 = 3600;

/// A cache over one Redis, and raw connections to it.
#[derive(Clone)]
pub struct Remote {
    /// The cache.
    pub cache: Cache<String, User, NoNear>,
    /// The raw client.
    pub raw: Raw,
    /// Another raw client.
    pub control: Raw,
}

/// The raw client: one connection for all callers, as its documentation advises.
#[derive(Clone)]
pub struct Raw {
    /// The connection.
    pub connection: MultiplexedConnection,
    prefix: String,
}

impl Remote {
    /// Connects both sides to the Redis at `url`, each with key prefixes of its own.
    ///
    /// # Errors
    /// Errors of the clients.
    pub async fn connect(url: &str) -> Result<Self> {
        let cache = connect(url, unique_name("bench"), Level::Fenced).await?;
        Ok(Self { cache, raw: Raw::connect(url).await?, control: Raw::connect(url).await? })
    }

    /// Gives both sides all [`KEYS`].
    ///
    /// # Errors
    /// Errors of the clients.
    pub async fn fill(&self) -> Result<()> {
        for start in (0..KEYS).step_by(500) {
            let numbers = start..start + 500;
            put_all(&self.cache, numbers.clone()).await?;
            for raw in [&self.raw, &self.control] {
                let mut pipeline = redis::pipe();
                for n in numbers.clone() {
                    pipeline.set_ex(raw.key(n), postcard::to_stdvec(&User::new(n))?, TTL_SECS).ignore();
                }
                pipeline.query_async::<()>(&mut raw.connection.clone()).await?;
            }
        }
        Ok(())
    }
}

pub(crate) async fn connect(
    url: &str,
    namespace: String,
    level: Level,
) -> Result<Cache<String, User, NoNear>> {
    let tier = terrace::Redis::builder(url).allow_plaintext().build()?;
    // Long, so that a slow turn of the machine is measured and not cut off.
    let tier = tier.budget(Duration::from_secs(5));
    let cache = Cache::builder(namespace).tier(tier).level(level).expire(Ttl::secs(TTL_SECS)).build()?;
    cache.ready().await?;
    Ok(cache)
}

pub(crate) async fn put_all(cache: &Cache<String, User, NoNear>, numbers: Range<usize>) -> Result<()> {
    for put in cache.put_many(numbers.map(|n| (key(n), User::new(n)))).await {
        put?;
    }
    Ok(())
}

impl Raw {
    async fn connect(url: &str) -> Result<Self> {
        let separator = if url.contains('?') { '&' } else { '?' };
        let client = redis::Client::open(format!("{url}{separator}protocol=resp3"))?;
        let connection = client.get_multiplexed_async_connection().await?;
        Ok(Self { connection, prefix: unique_name("raw") })
    }

    /// The key of a number, with the prefix of this client.
    #[must_use]
    pub fn key(&self, number: usize) -> String {
        format!("{}:{}", self.prefix, key(number))
    }
}

/// Calls `cache.get`.
#[derive(Clone)]
pub struct Get(pub Remote);
/// Runs GET and decodes.
#[derive(Clone)]
pub struct RawGet(pub Raw);
/// Calls `cache.get_many` with [`BATCH`] keys.
#[derive(Clone)]
pub struct GetMany(pub Remote);
/// Runs MGET of [`BATCH`] keys and decodes.
#[derive(Clone)]
pub struct RawGetMany(pub Raw);
/// Calls `cache.put`.
#[derive(Clone)]
pub struct Put(pub Remote);
/// Encodes and runs SET.
#[derive(Clone)]
pub struct RawPut(pub Raw);

impl Work for Get {
    async fn run(&self, n: usize) -> Result<()> {
        let found = self.0.cache.get(&key(scattered(n))).await?;
        found.map(drop).ok_or_else(|| "a key is missing from the cache".into())
    }
}

impl Work for RawGet {
    async fn run(&self, n: usize) -> Result<()> {
        let found: Vec<u8> = self.0.connection.clone().get(self.0.key(scattered(n))).await?;
        std::hint::black_box(postcard::from_bytes::<User>(&found)?);
        Ok(())
    }
}

impl Work for GetMany {
    async fn run(&self, n: usize) -> Result<()> {
        let keys: Vec<String> = batch(n).map(key).collect();
        let found = self.0.cache.get_many(&keys).await;
        let here = found.into_iter().filter(|result| matches!(result, Ok(Some(_)))).count();
        if here == BATCH { Ok(()) } else { Err("a key is missing from the cache".into()) }
    }
}

impl Work for RawGetMany {
    async fn run(&self, n: usize) -> Result<()> {
        let keys: Vec<String> = batch(n).map(|n| self.0.key(n)).collect();
        let found: Vec<Vec<u8>> = self.0.connection.clone().mget(keys).await?;
        for bytes in found {
            std::hint::black_box(postcard::from_bytes::<User>(&bytes)?);
        }
        Ok(())
    }
}

impl Work for Put {
    async fn run(&self, n: usize) -> Result<()> {
        self.0.cache.put(&key(scattered(n)), User::new(n)).await?;
        Ok(())
    }
}

impl Work for RawPut {
    async fn run(&self, n: usize) -> Result<()> {
        let bytes = postcard::to_stdvec(&User::new(n))?;
        let key = self.0.key(scattered(n));
        Ok(self.0.connection.clone().set_ex(key, bytes, TTL_SECS).await?)
    }
}

fn batch(n: usize) -> impl Iterator<Item = usize> {
    (0..BATCH).map(move |at| scattered(n * BATCH + at))
}

/// Measures the rows of this group.
///
/// # Errors
/// Errors of the servers.
pub async fn rows(effort: Effort, url: &str, emit: &mut dyn FnMut(Row)) -> Result<()> {
    let remote = Remote::connect(url).await?;
    remote.fill().await?;
    let get = Get(remote.clone());
    let (raw, control) = (RawGet(remote.raw.clone()), RawGet(remote.control.clone()));
    for (callers, least) in [(1, 0.95), (8, 0.9), (32, 0.9), (64, 1.05), (256, 1.3)] {
        let rounds = throughputs((&get, &raw, &control), callers, effort).await?;
        let name = format!("get / GET and decode, callers {callers}");
        emit(Row::new("redis", name, Unit::Thousands, &rounds, Some(Target::AtLeast(least))));
    }
    let many = GetMany(remote.clone());
    let (raw, control) = (RawGetMany(remote.raw.clone()), RawGetMany(remote.control.clone()));
    let rounds = times((&many, &raw, &control), 1, effort).await?;
    emit(Row::new("redis", "get_many / MGET and decode, keys 100, callers 1", Unit::Micros, &rounds, None));
    let (raw, control) = (RawPut(remote.raw.clone()), RawPut(remote.control.clone()));
    let put = Put(remote);
    for callers in [1, 32] {
        let rounds = throughputs((&put, &raw, &control), callers, effort).await?;
        emit(Row::new("redis", format!("put / SET, callers {callers}"), Unit::Thousands, &rounds, None));
    }
    Ok(())
}
