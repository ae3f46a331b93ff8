//! The stacks for bad input. They have no near tier, so every read is a trip.

use std::hash::Hash;

use serde::{Serialize, de::DeserializeOwned};
use terrace::{Builder, Cache, NoNear, Postgres, Redis, Sqlite, TierSettings};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};

use crate::support::PATIENCE;

pub(crate) type Stack<K, V> = Cache<K, V, NoNear>;

/// What the keys of a cache with remote tiers must be.
pub(crate) trait Key:
    Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static
{
}
impl<K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static> Key for K {}

/// What the values of a cache with remote tiers must be.
pub(crate) trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Value for V {}

/// Settings that a test makes on the builder of each cache.
pub(crate) trait Settings<K, V>: Fn(Builder<K, V, NoNear>) -> Builder<K, V, NoNear> {}
impl<K, V, F: Fn(Builder<K, V, NoNear>) -> Builder<K, V, NoNear>> Settings<K, V> for F {}

/// One handle for each kind of server.
pub(crate) struct Backends {
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    pub(crate) sqlite: Sqlite,
}

impl Backends {
    pub(crate) async fn new() -> Self {
        Self {
            redis: Redis::new(shared_redis().await.unwrap()).unwrap(),
            postgres: Postgres::new(&shared_postgres().await.unwrap()).unwrap(),
            sqlite: Sqlite::memory(),
        }
    }

    /// Caches of copies, one in each backend, each with its own namespace.
    pub(crate) async fn tiers<K: Key, V: Value>(&self, set: impl Settings<K, V>) -> Vec<Stack<K, V>> {
        let builder = || set(Builder::new(unique_name("tier"), NoNear));
        built([
            builder().tier(self.redis.clone().budget(PATIENCE)),
            builder().tier(self.postgres.clone().budget(PATIENCE)),
            builder().tier(self.sqlite.clone().budget(PATIENCE)),
        ])
        .await
    }

    /// Caches of records: in Postgres behind Redis, and in SQLite alone.
    pub(crate) async fn stores<K: Key, V: Value>(&self, set: impl Settings<K, V>) -> Vec<Stack<K, V>> {
        let builder = || set(Builder::new(unique_name("store"), NoNear));
        built([
            builder().tier(self.redis.clone().budget(PATIENCE)).store(self.postgres.clone().budget(PATIENCE)),
            builder().store(self.sqlite.clone().budget(PATIENCE)),
        ])
        .await
    }

    /// The caches of copies and the caches of records.
    pub(crate) async fn all<K: Key, V: Value>(&self, set: impl Settings<K, V>) -> Vec<Stack<K, V>> {
        let mut caches = self.tiers(&set).await;
        caches.extend(self.stores(&set).await);
        caches
    }
}

async fn built<K: Key, V: Value, const N: usize>(builders: [Builder<K, V, NoNear>; N]) -> Vec<Stack<K, V>> {
    let mut caches = Vec::new();
    for builder in builders {
        let cache = builder.build().unwrap();
        cache.ready().await.unwrap();
        caches.push(cache);
    }
    caches
}
