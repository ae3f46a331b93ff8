//! Lives of zero, and lives that overflow timestamps.

use std::time::Duration;

use terrace::{BoxError, Cache, Item, Memory, TierSettings, Ttl};
use terrace_testbed::unique_name;

use super::stacks::{Backends, Stack};
use crate::support::PATIENCE;

const LONGEST: [Duration; 3] =
    [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(u32::MAX as u64 * 1_000)];

async fn all(backends: &Backends) -> Vec<Stack<String, u64>> {
    backends.all(std::convert::identity).await
}

#[tokio::test]
async fn a_life_of_no_time_is_over_at_once() {
    let backends = Backends::new().await;
    for cache in all(&backends).await {
        cache.put("k", 1).await.unwrap();
        cache.put_item("k", Item::new(2).ttl(Duration::ZERO)).await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none(), "{cache:?}");
        cache.put("k", 3).await.unwrap();
        assert!(cache.expire("k", Duration::ZERO).await.unwrap());
        assert!(cache.get("k").await.unwrap().is_none(), "{cache:?}");
        let load = |_| async { Ok::<_, BoxError>(Item::new(4).ttl(Duration::ZERO)) };
        assert_eq!(cache.get_or_load_with("k", load).await.unwrap().unwrap(), 4, "its caller gets it");
        cache.settled().await;
        assert!(cache.get("k").await.unwrap().is_none(), "{cache:?}");
    }
}

#[tokio::test]
async fn the_longest_life_is_for_ever() {
    let backends = Backends::new().await;
    for life in LONGEST {
        for cache in all(&backends).await {
            cache.put_item("k", Item::new(1).ttl(life)).await.unwrap();
            assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
            assert!(cache.ttl("k").await.unwrap().unwrap() > Duration::from_secs(1 << 40).min(life / 2));
            assert!(cache.expire("k", life).await.unwrap());
            assert_eq!(cache.get("k").await.unwrap().unwrap(), 1, "{life:?} {cache:?}");
            let load = |_| async move { Ok::<_, BoxError>(Item::new(5).ttl(life)) };
            assert_eq!(cache.get_or_load_with("l", load).await.unwrap().unwrap(), 5);
            cache.settled().await;
            assert_eq!(cache.get("l").await.unwrap().unwrap(), 5, "{life:?} {cache:?}");
        }
    }
}

#[tokio::test]
async fn settings_of_no_time_and_of_all_time_work() {
    let backends = Backends::new().await;
    for (life, keeps) in [(Duration::ZERO, false), (Duration::MAX, true)] {
        let cache: Cache<String, u64> = Cache::builder(unique_name("settings"))
            .near(Memory::entries(10))
            .near_ttl(life)
            .tier(backends.redis.clone().budget(PATIENCE).ttl(life))
            .store(backends.postgres.clone())
            .expire(
                Ttl::of(life).jitter(0.5).stale_if_error(life).stale_while_revalidate(life).negative(life),
            )
            .load_deadline(Duration::MAX)
            .build()
            .unwrap();
        cache.ready().await.unwrap();
        cache.put("k", 1).await.unwrap();
        for _ in 0..3 {
            assert_eq!(
                cache.get("k").await.unwrap().unwrap(),
                1,
                "the record stays, whatever the life of its copies"
            );
            cache.settled().await;
        }
        let copies = cache.stats().tier("near").unwrap().hits + cache.stats().tier("redis").unwrap().hits;
        assert_eq!(copies > 0, keeps);
    }
}
