//! Values of no bytes, and values that are too large for a tier.

use std::time::Duration;

use terrace::{
    BoxError, Builder, Cache, Compression, ErrorKind, Item, Memory, NoNear, Redis, SizeLimit, Source,
    TierSettings, Ttl,
};
use terrace_testbed::{shared_redis, unique_name};

use super::stacks::{Backends, Stack};
use crate::support::{PATIENCE, raw_redis, redis_command};

const LARGE_BYTES: usize = 64 << 20;

fn plain<V>(builder: Builder<String, V, NoNear>) -> Builder<String, V, NoNear>
where
    V: Send + Sync + 'static,
{
    builder.compression(Compression::None)
}

#[tokio::test]
async fn values_of_no_bytes_are_values() {
    let backends = Backends::new().await;
    for cache in backends.all(plain::<()>).await {
        assert!(cache.get("k").await.unwrap().is_none());
        cache.put_item("k", Item::new(())).await.unwrap();
        assert!(cache.get("k").await.unwrap().is_some());
        assert!(cache.get_or_load("k", async || Err::<(), BoxError>("not asked".into())).await.is_ok());
    }
    for cache in backends.all(plain::<String>).await {
        cache.put("k", String::new()).await.unwrap();
        assert_eq!(*cache.get("k").await.unwrap().unwrap(), "");
    }
}

async fn state_in_redis(cache: &Stack<String, String>) -> Option<u8> {
    let mut raw = raw_redis(&shared_redis().await.unwrap()).await;
    let key = format!("terrace:{}:k", cache.namespace());
    let cell: Option<Vec<u8>> = redis_command(&mut raw, &["GET", &key]).await;
    cell.and_then(|cell| cell.first().copied())
}

#[tokio::test]
async fn a_value_of_64_mib_is_kept_by_a_store_and_leaves_a_tombstone_in_redis() {
    let backends = Backends::new().await;
    let large = "x".repeat(LARGE_BYTES);
    for cache in backends.stores(plain::<String>).await {
        cache.put("k", "small".to_owned()).await.unwrap();
        assert_eq!(*cache.get("k").await.unwrap().unwrap(), "small");
        cache.settled().await;
        cache.put("k", large.clone()).await.unwrap();
        let has_redis = cache.stats().tier("redis").is_some();
        assert!(
            !has_redis || state_in_redis(&cache).await == Some(b'T'),
            "a tombstone must replace the old copy"
        );
        for _ in 0..2 {
            let found = cache.get("k").await.unwrap().unwrap();
            assert!(*found == large && matches!(found.served().from, Source::Store(_)));
            cache.settled().await;
        }
        assert!(!cache.stats().tiers.iter().any(|tier| tier.lost), "a value that is too large is no outage");
        cache.put("k", "small again".to_owned()).await.unwrap();
        assert_eq!(*cache.get("k").await.unwrap().unwrap(), "small again");
    }
}

#[tokio::test]
async fn a_loaded_value_of_64_mib_goes_to_its_caller_where_a_tier_does_not_keep_it() {
    let backends = Backends::new().await;
    let large = "x".repeat(LARGE_BYTES);
    for cache in backends.tiers(plain::<String>).await {
        let load = || {
            let large = large.clone();
            async move { Ok::<_, BoxError>(large) }
        };
        assert_eq!(*cache.get_or_load("k", load).await.unwrap(), large);
        cache.settled().await;
        match cache.get("k").await.unwrap() {
            Some(kept) => assert!(*kept == large && cache.stats().tier("redis").is_none()),
            None => assert_eq!(cache.put("k", large.clone()).await.unwrap_err().kind(), ErrorKind::TooLarge),
        }
        assert!(!cache.stats().tiers.iter().any(|tier| tier.lost));
    }
}

#[tokio::test]
async fn a_value_above_the_codecs_limit_is_a_typed_error() {
    let backends = Backends::new().await;
    let larger = "x".repeat(LARGE_BYTES + (1 << 20));
    for cache in backends.stores(plain::<String>).await {
        cache.put("k", "old".to_owned()).await.unwrap();
        assert_eq!(cache.put("k", larger.clone()).await.unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(*cache.get("k").await.unwrap().unwrap(), "old", "nothing is lost");
    }
}

/// A Redis tier that keeps values of at most 1 KiB.
async fn small_redis() -> Redis {
    Redis::builder(shared_redis().await.unwrap()).max_value_bytes(1 << 10).build().unwrap()
}

#[tokio::test]
async fn a_refresh_to_a_value_that_a_tier_does_not_take_leaves_no_old_copy_there() {
    let large = "x".repeat(1 << 14);
    let by_limit: Stack<String, String> = plain(Builder::new(unique_name("refresh"), NoNear))
        .tier(small_redis().await.budget(PATIENCE))
        .build()
        .unwrap();
    let by_policy: Stack<String, String> = plain(Builder::new(unique_name("refresh"), NoNear))
        .tier(Redis::new(shared_redis().await.unwrap()).unwrap().budget(PATIENCE))
        .admit(SizeLimit::bytes(1 << 10))
        .build()
        .unwrap();
    for cache in [by_limit, by_policy] {
        cache.put("k", "old".to_owned()).await.unwrap();
        let large = large.clone();
        let renewed = cache.refresh("k", async |_| Ok::<_, BoxError>(large)).await.unwrap().unwrap();
        assert_eq!(renewed.len(), 1 << 14);
        cache.settled().await;
        assert!(cache.get("k").await.unwrap().is_none(), "the old value came back after its refresh");
    }
}

#[tokio::test]
async fn a_stale_copy_is_gone_once_a_value_that_its_tier_does_not_take_was_loaded() {
    let expiry = Ttl::of(Duration::from_millis(50)).stale_while_revalidate(Duration::from_secs(60));
    let cache: Stack<String, String> = plain(Builder::new(unique_name("stale"), NoNear))
        .tier(small_redis().await.budget(PATIENCE))
        .expire(expiry)
        .build()
        .unwrap();
    cache.put("k", "old".to_owned()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(80)).await;
    let load = || async { Ok::<_, BoxError>("x".repeat(1 << 14)) };
    assert_eq!(*cache.get_or_load("k", load).await.unwrap(), "old", "stale while it is renewed");
    cache.settled().await;
    assert_eq!(cache.get_or_load("k", load).await.unwrap().len(), 1 << 14);
}

#[tokio::test]
async fn a_refresh_whose_value_is_not_to_be_kept_leaves_no_old_value_anywhere() {
    let cache: Cache<String, String> = Cache::builder(unique_name("refresh"))
        .near(Memory::entries(10))
        .tier(Redis::new(shared_redis().await.unwrap()).unwrap().budget(PATIENCE))
        .build()
        .unwrap();
    for item in [Item::absent(), Item::new("brief".to_owned()).ttl(Duration::ZERO)] {
        cache.put("k", "old".to_owned()).await.unwrap();
        cache.refresh("k", async |_| Ok::<_, BoxError>(item)).await.unwrap();
        cache.settled().await;
        assert!(cache.get("k").await.unwrap().is_none(), "the old value came back after its refresh");
    }
}
