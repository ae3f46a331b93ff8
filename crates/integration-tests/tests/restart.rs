//! Values survive when the cache and its handles are dropped and built again.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use support::{PATIENCE, eventually};
use terrace::{BoxError, Cache, Postgres, Redis, Source, Sqlite, TierSettings};
use terrace_testbed as testbed;
use terrace_testbed::{shared_postgres, shared_redis, unique_name};

type Stack = Cache<u64, String>;

async fn fill(cache: &Stack) {
    for put in cache.put_many((0..100).map(|key| (key, format!("value {key}")))).await {
        put.unwrap();
    }
    assert!(cache.remove(&50).await.unwrap());
}

async fn every_value_is_there(cache: &Stack) {
    for key in 0..100 {
        let found = cache.get(&key).await.unwrap();
        let expected = (key != 50).then(|| format!("value {key}"));
        assert_eq!(found.as_deref(), expected.as_ref(), "{key}");
    }
}

#[tokio::test]
async fn the_embedded_default_on_a_file_keeps_records_and_copies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.db");
    let records =
        |sqlite: &Sqlite| -> Stack { Cache::builder("records").store(sqlite.clone()).build().unwrap() };
    let copies = |sqlite: &Sqlite| -> Stack {
        Cache::builder("copies").tier(sqlite.clone().budget(PATIENCE)).build().unwrap()
    };
    {
        let sqlite = Sqlite::file(&path).unwrap();
        fill(&records(&sqlite)).await;
        let cache = copies(&sqlite);
        cache.get_or_load(&1, async || Ok::<_, BoxError>("loaded".to_owned())).await.unwrap();
        cache.close().await;
    }
    // Tasks that outlive the last handle end after a moment, and only then is the file unlocked.
    let mut again = None;
    eventually("the file can be opened again", async || {
        again = Sqlite::file(&path).ok();
        again.is_some()
    })
    .await;
    let sqlite = again.unwrap();
    every_value_is_there(&records(&sqlite)).await;
    let found = copies(&sqlite).get(&1).await.unwrap().unwrap();
    assert_eq!((found.as_str(), found.served().from), ("loaded", Source::Tier("sqlite")));
}

#[tokio::test]
async fn redis_and_postgres_keep_records_and_copies() {
    let (redis_url, postgres_url) = (shared_redis().await.unwrap(), shared_postgres().await.unwrap());
    let namespace = unique_name("restart");
    let build = || -> Stack {
        Cache::builder(namespace.clone())
            .tier(Redis::new(&redis_url).unwrap().budget(PATIENCE))
            .store(Postgres::new(&postgres_url).unwrap())
            .build()
            .unwrap()
    };
    {
        let cache = build();
        // The relay of a namespace begins by dropping all of its copies.
        cache.ready().await.unwrap();
        fill(&cache).await;
        every_value_is_there(&cache).await;
        cache.close().await;
    }
    let cache = build();
    every_value_is_there(&cache).await;
    assert_eq!(
        cache.stats().tier("redis").unwrap().hits,
        99,
        "the copies outlive the handles of the process"
    );
}

#[tokio::test]
async fn records_outlive_a_crash_of_both_servers() {
    let redis = testbed::Redis::start().await.unwrap();
    let server = testbed::Postgres::options().durable().start().await.unwrap();
    let build = || -> Stack {
        Cache::builder("crash")
            .tier(Redis::new(redis.url()).unwrap())
            .store(Postgres::new(&server.url()).unwrap())
            .build()
            .unwrap()
    };
    fill(&build()).await;
    redis.kill9().unwrap();
    server.kill9().unwrap();
    server.restart().await.unwrap();
    redis.restart().await.unwrap();
    let cache = build();
    every_value_is_there(&cache).await;
}
