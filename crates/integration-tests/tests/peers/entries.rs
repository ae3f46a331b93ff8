//! An entry on its way between tiers keeps its life and its key.

use terrace::{BoxError, Cache, Item, Memory, NoNear, Redis, Source, TierSettings};
use terrace_testbed as testbed;
use tokio::time::{Instant, sleep};

use crate::{
    Stack, bare, name, process,
    support::{PATIENCE, ms, raw_redis, redis_command},
};

#[tokio::test]
async fn fault_1_a_promoted_entry_is_a_near_hit_at_the_second_read() {
    let (url, namespace) = name("promoted").await;
    bare(&url, &namespace).put("k", 1).await.unwrap();
    sleep(ms(50)).await;
    let cache = process(&url, &namespace);
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("redis"));
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Near);
}

#[tokio::test]
async fn fault_6_a_life_below_a_second_ends_in_redis_to_the_millisecond() {
    let (url, namespace) = name("short").await;
    let (cache, mut raw) = (bare(&url, &namespace), raw_redis(&url).await);
    for life in [150, 999, 1_500] {
        let put_at = Instant::now();
        cache.put_item("k", Item::new(1).ttl(ms(life))).await.unwrap();
        let key = format!("terrace:{namespace}:k");
        let left: i64 = redis_command(&mut raw, &["PTTL", &key]).await;
        let least = i64::try_from(life).unwrap() - i64::try_from(put_at.elapsed().as_millis()).unwrap() - 20;
        assert!(left != -1 && left >= least && left <= i64::try_from(life).unwrap(), "{life}: {left}");
    }
    cache.put_item("k", Item::new(1).ttl(ms(150))).await.unwrap();
    sleep(ms(160)).await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn fault_11_no_tier_gives_a_promoted_entry_a_longer_life() {
    let (url, namespace) = name("lives").await;
    let postgres = terrace::Postgres::new(&testbed::shared_postgres().await.unwrap()).unwrap();
    let far: Stack<NoNear> =
        Cache::builder(namespace.clone()).tier(postgres.clone().budget(PATIENCE)).build().unwrap();
    far.ready().await.unwrap();
    let put_at = Instant::now();
    far.put_item("k", Item::new(1).ttl(ms(2_000))).await.unwrap();
    sleep(ms(500)).await;
    let near = Memory::entries(10);
    let cache: Stack = Cache::builder(namespace.clone())
        .near(near)
        .tier(Redis::new(&url).unwrap().budget(PATIENCE))
        .tier(postgres.budget(PATIENCE))
        .build()
        .unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("postgres"));
    cache.settled().await;
    let mut raw = raw_redis(&url).await;
    let left: i64 = redis_command(&mut raw, &["PTTL", &format!("terrace:{namespace}:k")]).await;
    assert!((1..=1_500).contains(&left), "in redis it has {left} ms left");
    sleep((ms(2_010)).saturating_sub(put_at.elapsed())).await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn fault_17_a_value_under_another_keys_name_is_a_miss() {
    let (url, namespace) = name("swapped").await;
    let (cache, mut raw) = (bare(&url, &namespace), raw_redis(&url).await);
    let other = bare(&url, &format!("{namespace}_other"));
    cache.put("a", 1).await.unwrap();
    cache.put("b", 2).await.unwrap();
    other.put("b", 3).await.unwrap();
    for (source, what) in [("a", namespace.clone()), ("b", format!("{namespace}_other"))] {
        let before = cache.stats().tier("redis").unwrap().undecodable;
        let (from, to) = (format!("terrace:{what}:{source}"), format!("terrace:{namespace}:b"));
        // The cell is the body of another key behind this key's own header.
        let own: Vec<u8> = redis_command(&mut raw, &["GET", &to]).await;
        let foreign: Vec<u8> = redis_command(&mut raw, &["GET", &from]).await;
        let cell = [&own[..terrace::tier::HEADER_LEN], &foreign[terrace::tier::HEADER_LEN..]].concat();
        let mut set = redis::cmd("SET");
        set.arg(&to).arg(cell).exec_async(&mut raw).await.unwrap();
        assert!(cache.get("b").await.unwrap().is_none(), "{what}");
        assert_eq!(cache.stats().tier("redis").unwrap().undecodable, before + 1);
        assert_eq!(cache.get_or_load("b", async || Ok::<u64, BoxError>(2)).await.unwrap(), 2);
        cache.settled().await;
        assert_eq!(cache.get("b").await.unwrap().unwrap(), 2, "the load replaced it");
    }
    assert_eq!(cache.get("a").await.unwrap().unwrap(), 1);
}
