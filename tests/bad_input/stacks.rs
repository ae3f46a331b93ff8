//! The stacks that bad input is sent through: near off, so that every read is a trip.

use std::hash::Hash;

use serde::{Serialize, de::DeserializeOwned};
use terrace::{Builder, Cache, NoNear, Postgres, Redis, Sqlite, TierSettings};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};

use crate::support::PATIENCE;

pub(crate) type Stack<K, V> = Cache<K, V, NoNear>;

/// Handles of one server each.
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

    /// Copies alone, in each backend, under a name of their own.
    pub(crate) async fn tiers<K, V>(
        &self,
        each: impl Fn(Builder<K, V, NoNear>) -> Builder<K, V, NoNear>,
    ) -> Vec<Stack<K, V>>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let begin = || each(Builder::new(unique_name("tier"), NoNear));
        let caches = [
            begin().tier(self.redis.clone().budget(PATIENCE)),
            begin().tier(self.postgres.clone().budget(PATIENCE)),
            begin().tier(self.sqlite.clone().budget(PATIENCE)),
        ];
        built(caches).await
    }

    /// Records, behind Redis and without it.
    pub(crate) async fn stores<K, V>(
        &self,
        each: impl Fn(Builder<K, V, NoNear>) -> Builder<K, V, NoNear>,
    ) -> Vec<Stack<K, V>>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let begin = || each(Builder::new(unique_name("store"), NoNear));
        let caches = [
            begin().tier(self.redis.clone().budget(PATIENCE)).store(self.postgres.clone().budget(PATIENCE)),
            begin().store(self.sqlite.clone().budget(PATIENCE)),
        ];
        built(caches).await
    }
}

async fn built<K, V, const N: usize>(builders: [Builder<K, V, NoNear>; N]) -> Vec<Stack<K, V>>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let mut caches = Vec::new();
    for builder in builders {
        let cache = builder.build().unwrap();
        cache.ready().await.unwrap();
        caches.push(cache);
    }
    caches
}
