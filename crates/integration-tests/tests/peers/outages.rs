//! Servers that die, hang or come back.

use terrace::{BoxError, Cache, ErrorKind, NoNear, Redis};
use terrace_testbed as testbed;
use terrace_testbed::Proxy;
use tokio::time::{Instant, sleep};

use crate::{
    Stack, bare,
    support::{eventually, ms, raw_redis, redis_command},
};

#[tokio::test]
async fn fault_2_a_dead_tier_fails_no_read_that_the_loader_can_answer() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "dead");
    cache.ready().await.unwrap();
    server.kill9().unwrap();
    for key in 0..100_u64 {
        let load = || async move { Ok::<_, BoxError>(key) };
        assert_eq!(cache.get_or_load(&key.to_string(), load).await.unwrap(), key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_9_after_a_reconnect_an_old_copy_is_not_read() {
    let server = testbed::Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let postgres = terrace::Postgres::new(&testbed::shared_postgres().await.unwrap()).unwrap();
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let cache: Stack<NoNear> =
        Cache::builder("reconnect").tier(Redis::new(url).unwrap()).store(postgres).build().unwrap();
    cache.put("k", 1).await.unwrap();
    for round in 2..6 {
        eventually("a copy is in redis", async || {
            cache.get("k").await.unwrap();
            cache.settled().await;
            bare_has(&server.url(), round - 1).await
        })
        .await;
        proxy.refuse().await;
        proxy.cut().await;
        cache.put("k", round).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap(), round);
        proxy.accept().await;
        let back = Instant::now();
        while back.elapsed() < ms(700) {
            assert_eq!(cache.get("k").await.unwrap().unwrap(), round);
            assert_eq!(
                cache.get_many(&["k".to_owned()]).await.into_values().unwrap(),
                [cache.get("k").await.unwrap()]
            );
            sleep(ms(7)).await;
        }
    }
}

/// Whether Redis itself has this value.
async fn bare_has(url: &str, value: u64) -> bool {
    let mut raw = raw_redis(url).await;
    let cell: Option<Vec<u8>> = redis_command(&mut raw, &["GET", "terrace:reconnect:k"]).await;
    cell.is_some_and(|cell| cell.first() == Some(&b'V') && cell.last() == Some(&u8::try_from(value).unwrap()))
}

#[tokio::test]
async fn fault_10_an_outage_is_counted_as_errors_and_trips() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "trips");
    cache.ready().await.unwrap();
    let redis = || cache.stats().tier("redis").unwrap().clone();
    assert!(cache.get("k").await.unwrap().is_none());
    assert_eq!((redis().misses, redis().errors, redis().lost), (1, 0, false), "an honest miss");
    server.kill9().unwrap();
    for _ in 0..100 {
        assert!(cache.get("k").await.unwrap().is_none());
    }
    assert!(redis().lost && redis().errors >= 1);
    assert!(redis().errors < 20, "a lost tier is asked now and then, not by every read: {:?}", redis());
}

#[tokio::test]
async fn fault_16_a_remove_that_a_tier_did_not_confirm_is_an_error() {
    let server = testbed::Redis::start().await.unwrap();
    let postgres = terrace::Postgres::new(&testbed::shared_postgres().await.unwrap()).unwrap();
    let cache: Stack<NoNear> =
        Cache::builder("partial").tier(Redis::new(server.url()).unwrap()).store(postgres).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.put("l", 1).await.unwrap();
    server.pause().unwrap();
    let error = cache.remove("k").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Partial && error.to_string().contains("redis"), "{error:?}");
    for result in cache.remove_many(&["l".to_owned(), "m".to_owned()]).await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Partial);
    }
    assert!(cache.get("k").await.unwrap().is_none(), "the store has removed it");
    server.resume().unwrap();
}
