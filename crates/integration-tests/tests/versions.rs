//! Two versions of a program, whose value types differ by a field, share a namespace on real servers.
//!
//! Both read in turns for a second. For a minute: `TERRACE_VERSIONS_SECONDS=60 cargo test --test versions`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use support::PATIENCE;
use terrace::{
    BoxError, Builder, Cache, ErrorKind, NoNear, Postgres, Redis, Sqlite, TierSettings, Ttl, Value,
};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};
use tokio::time::Instant;

const KEYS: u64 = 100;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    name: String,
    email: Option<String>,
}

fn old(key: u64) -> Old {
    Old { name: format!("name {key}") }
}

fn new(key: u64) -> New {
    New { name: format!("name {key}"), email: Some(format!("{key}@example.org")) }
}

/// How long both versions read.
fn duration() -> Duration {
    let seconds = std::env::var("TERRACE_VERSIONS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// One version of the program, and how often it has loaded.
struct Version<V> {
    cache: Cache<u64, V, NoNear>,
    loads: Arc<AtomicU64>,
    value: fn(u64) -> V,
}

type Tiers<'t, V> = dyn Fn(Builder<u64, V, NoNear>) -> Builder<u64, V, NoNear> + 't;

impl<V: Value + Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug> Version<V> {
    /// Starts a process of this version, which is ready although the other version runs.
    async fn start(namespace: &str, value: fn(u64) -> V, tiers: &Tiers<'_, V>) -> Self {
        let builder = Builder::new(namespace.to_owned(), NoNear).expire(Ttl::of(Duration::from_secs(3600)));
        let cache = tiers(builder).build().unwrap();
        cache.ready().await.unwrap();
        Self { cache, loads: Arc::default(), value }
    }

    async fn read(&self, key: u64) {
        let (loads, value) = (Arc::clone(&self.loads), (self.value)(key));
        let load = async move || {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BoxError>(value)
        };
        let read = self.cache.get_or_load(&key, load).await.unwrap();
        assert_eq!(*read, (self.value)(key));
        self.cache.settled().await;
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

/// Forward, back, forward: the old version runs alone, then both, then the old one alone again, then both.
async fn both_versions(name: &str, of_old: &Tiers<'_, Old>, of_new: &Tiers<'_, New>) {
    let namespace = unique_name(name);
    let first = Version::start(&namespace, old, of_old).await;
    for key in 0..KEYS {
        first.read(key).await;
    }
    let forward = Version::start(&namespace, new, of_new).await;
    first.cache.ready().await.unwrap();
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < duration() || rounds < 3 {
        for key in 0..KEYS {
            first.read(key).await;
            forward.read(key).await;
        }
        rounds += 1;
    }
    assert_eq!((first.loads(), forward.loads()), (KEYS, KEYS), "{name}: one load a key and version");
    drop(forward.cache);
    let back = Version::start(&namespace, old, of_old).await;
    let again = Version::start(&namespace, new, of_new).await;
    for key in 0..KEYS {
        back.read(key).await;
        again.read(key).await;
    }
    assert_eq!((back.loads(), again.loads()), (0, 0), "{name}: the copies of both are still there");
    back.cache.invalidate(&1).await.unwrap();
    assert_eq!(again.cache.get(&1).await.unwrap(), None, "{name}: an invalidate reaches both");
    again.cache.clear().await.unwrap();
    support::eventually("a clear reaches both", async || back.cache.get(&2).await.unwrap().is_none()).await;
    println!("{name}: {rounds} rounds of {KEYS} keys, loads: {} and {}", first.loads(), KEYS);
}

fn plain(url: &str) -> Redis {
    Redis::builder(url).allow_plaintext().build().unwrap()
}

#[tokio::test]
async fn two_versions_load_each_key_once_over_redis() {
    let url = shared_redis().await.unwrap();
    let of_old = |builder: Builder<u64, Old, NoNear>| builder.tier(plain(&url).budget(PATIENCE));
    let of_new = |builder: Builder<u64, New, NoNear>| builder.tier(plain(&url).budget(PATIENCE));
    both_versions("redis", &of_old, &of_new).await;
}

#[tokio::test]
async fn two_versions_load_each_key_once_over_postgres() {
    let url = shared_postgres().await.unwrap();
    let postgres = || Postgres::new(&url).unwrap().budget(PATIENCE);
    both_versions("postgres", &|builder| builder.tier(postgres()), &|builder| builder.tier(postgres())).await;
}

#[tokio::test]
async fn two_versions_load_each_key_once_over_redis_and_postgres() {
    let (redis, postgres) = (shared_redis().await.unwrap(), shared_postgres().await.unwrap());
    let far = || Postgres::new(&postgres).unwrap().budget(PATIENCE);
    let of_old =
        |builder: Builder<u64, Old, NoNear>| builder.tier(plain(&redis).budget(PATIENCE)).tier(far());
    let of_new =
        |builder: Builder<u64, New, NoNear>| builder.tier(plain(&redis).budget(PATIENCE)).tier(far());
    both_versions("redis_and_postgres", &of_old, &of_new).await;
}

/// One process uses a file, so both versions are caches of one handle.
#[tokio::test]
async fn two_versions_load_each_key_once_over_sqlite() {
    let sqlite = Sqlite::memory();
    let tier = || sqlite.clone().budget(PATIENCE);
    both_versions("sqlite", &|builder| builder.tier(tier()), &|builder| builder.tier(tier())).await;
}

/// A rolling update of records: the new version reads old ones, and the old version is told of newer ones.
#[tokio::test]
async fn records_are_upgraded_over_postgres_behind_redis() {
    let (redis, postgres) = (shared_redis().await.unwrap(), shared_postgres().await.unwrap());
    let namespace = unique_name("records");
    let store = || Postgres::new(&postgres).unwrap().budget(PATIENCE);
    let tier = || plain(&redis).budget(PATIENCE);
    let start = Builder::<u64, Old, _>::new(namespace.clone(), NoNear).schema(1).tier(tier()).store(store());
    let first = start.build().unwrap();
    let start = Builder::<u64, New, _>::new(namespace, NoNear).schema(2).tier(tier()).store(store());
    let next = start.upgrade::<Old>(1, |old| New { name: old.name, email: None }).build().unwrap();
    for key in 0..KEYS {
        first.put(&key, old(key)).await.unwrap();
    }
    first.ready().await.unwrap();
    next.ready().await.unwrap();
    for key in 0..KEYS {
        assert_eq!(*next.get(&key).await.unwrap().unwrap(), New { email: None, ..new(key) });
        assert_eq!(*first.get(&key).await.unwrap().unwrap(), old(key));
    }
    next.put(&1, new(1)).await.unwrap();
    assert_eq!(*next.get(&1).await.unwrap().unwrap(), new(1));
    let error = first.get(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undecodable);
    assert!(error.to_string().contains("a newer program wrote it, with schema 2"), "{error}");
    first.put(&1, old(1)).await.unwrap();
    assert_eq!(*next.get(&1).await.unwrap().unwrap(), New { email: None, ..new(1) });
}
