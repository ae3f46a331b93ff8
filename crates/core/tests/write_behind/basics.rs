//! What a put, a removal and a read do.

use terrace_conformance::Fake;
use terrace_core::{BacklogStats, Source, policy::BehindPlan};
use terrace_tier::Role;

use super::{Behind, behind, has, plan, stack};
use crate::support::{Loader, ms, without_near};

#[tokio::test(start_paused = true)]
async fn a_put_returns_before_the_store_has_it_and_is_read_at_once() {
    let store = Fake::named("postgres");
    let cache = without_near().write(Behind(plan())).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert!(!has(&store, Role::Store, "k").await);
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    let many = cache.get_many(&["k".to_owned(), "absent".to_owned()]).await.into_values().unwrap();
    assert_eq!((many[0].as_deref(), many[1].as_deref()), (Some(&1), None));
    assert_eq!(cache.with(terrace_core::Level::Strong).get("k").await.unwrap().unwrap(), 1);
    assert_eq!(cache.backlog().keys, 1);
    cache.flush().await.unwrap();
    assert!(has(&store, Role::Store, "k").await);
    assert_eq!((cache.backlog().keys, cache.backlog().bytes, cache.backlog().oldest), (0, 0, None));
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Store("postgres"));
}

#[tokio::test(start_paused = true)]
async fn a_write_is_flushed_within_the_delay_without_a_call() {
    let store = Fake::named("postgres");
    let cache = stack(&store);
    cache.put("k", 1).await.unwrap();
    tokio::time::sleep(ms(40)).await;
    assert!(!has(&store, Role::Store, "k").await);
    tokio::time::sleep(ms(20)).await;
    assert!(has(&store, Role::Store, "k").await);
}

#[tokio::test(start_paused = true)]
async fn the_newest_write_of_a_key_is_flushed_once() {
    let store = Fake::named("postgres");
    let cache = stack(&store);
    for value in 0..100 {
        cache.put("k", value).await.unwrap();
    }
    cache.flush().await.unwrap();
    let stats = cache.stats();
    assert_eq!((stats.writes_flushed, stats.writes_coalesced, stats.flushes), (1, 99, 1));
    let reader = crate::support::builder().store(store.another_handle()).build().unwrap();
    assert_eq!(reader.get("k").await.unwrap().unwrap(), 99);
}

#[tokio::test(start_paused = true)]
async fn a_cache_tier_follows_at_the_flush_and_not_before() {
    let (redis, store) = (Fake::named("redis"), Fake::named("postgres"));
    let cache = behind().tier(redis.clone()).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    let other = without_near().tier(redis.another_handle()).store(store.another_handle()).build().unwrap();
    assert_eq!(other.get("k").await.unwrap().unwrap(), 1);
    other.settled().await;
    assert!(has(&redis, Role::Cache, "k").await);
    cache.put("k", 2).await.unwrap();
    // Others read the record that the store has.
    assert_eq!(other.get("k").await.unwrap().unwrap(), 1);
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
    cache.flush().await.unwrap();
    let hit = other.get("k").await.unwrap().unwrap();
    assert_eq!((*hit, hit.served().from), (2, Source::Tier("redis")));
}

#[tokio::test(start_paused = true)]
async fn a_removal_answers_absent_at_once_and_deletes_the_record() {
    let (redis, store) = (Fake::named("redis"), Fake::named("postgres"));
    let cache =
        without_near().write(Behind(plan())).tier(redis.clone()).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    cache.remove("k").await.unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
    assert!(has(&store, Role::Store, "k").await);
    cache.flush().await.unwrap();
    assert!(!has(&store, Role::Store, "k").await && !has(&redis, Role::Cache, "k").await);
    assert!(cache.get("k").await.unwrap().is_none());
    assert!(!cache.remove("k").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_dirty_outlives_an_invalidation_and_a_clear() {
    let (redis, store) = (Fake::named("redis"), Fake::named("postgres"));
    let cache = behind().tier(redis).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    cache.put("k", 2).await.unwrap();
    cache.invalidate("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
    cache.clear().await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_record_keeps_its_own_life() {
    let store = Fake::named("postgres");
    let cache = without_near().write(Behind(plan())).store(store).build().unwrap();
    cache.put_item("k", terrace_core::Item::new(1).ttl(ms(60_000))).await.unwrap();
    for _ in 0..2 {
        let ttl = cache.ttl("k").await.unwrap().unwrap();
        assert!(ttl <= ms(60_000) && ttl > ms(50_000), "{ttl:?}");
        cache.flush().await.unwrap();
    }
    assert!(cache.expire("k", ms(5_000)).await.unwrap());
    cache.flush().await.unwrap();
    assert!(cache.ttl("k").await.unwrap().unwrap() <= ms(5_000));
    assert!(!cache.expire("absent", ms(5_000)).await.unwrap());
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loaded_value_becomes_the_record() {
    let (redis, store) = (Fake::named("redis"), Fake::named("postgres"));
    let cache = behind().tier(redis).store(store.clone()).build().unwrap();
    let loader = Loader::default();
    assert_eq!(cache.get_or_load("k", || loader.give(1, ms(1))).await.unwrap(), 1);
    cache.flush().await.unwrap();
    assert!(has(&store, Role::Store, "k").await);
    assert_eq!(cache.get_or_load("k", || loader.give(2, ms(1))).await.unwrap(), 1);
    assert_eq!(loader.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn tenants_share_the_front_and_keep_their_keys_apart() {
    let store = Fake::named("postgres");
    let tenants = behind().store(store).build_per_tenant().unwrap();
    let (ann, bob) = (tenants.tenant("ann").unwrap(), tenants.tenant("bob").unwrap());
    ann.put("k", 1).await.unwrap();
    bob.put("k", 2).await.unwrap();
    assert_eq!(ann.backlog().keys, 2);
    ann.flush().await.unwrap();
    assert_eq!((*ann.get("k").await.unwrap().unwrap(), *bob.get("k").await.unwrap().unwrap()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_close_flushes_what_is_dirty_and_says_what_is_left() {
    let store = Fake::named("postgres");
    let cache = stack(&store);
    cache.put("k", 1).await.unwrap();
    let left = cache.close_within(ms(1_000)).await;
    assert_eq!(left.keys, 0);
    assert!(has(&store, Role::Store, "k").await);
    assert_eq!(cache.put("k", 2).await.unwrap_err().kind(), terrace_core::ErrorKind::Closed);

    // The namespace was given back, so another cache may write at once.
    let other = crate::support::builder().store(store.another_handle()).build().unwrap();
    other.put("k", 3).await.unwrap();

    let away = Fake::named("postgres");
    let cache = stack(&away);
    cache.put("k", 1).await.unwrap();
    away.set_down(true);
    let left = cache.close_within(ms(1_000)).await;
    assert_eq!((left.keys, left.dead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cache_without_write_behind_has_an_empty_backlog() {
    let cache = crate::support::builder().store(Fake::named("postgres")).build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.backlog(), BacklogStats::default());
    cache.flush().await.unwrap();
    assert!(cache.dead_letters().list().is_empty());
    assert_eq!(cache.close_within(ms(100)).await, BacklogStats::default());
}

#[test]
fn what_write_behind_cannot_promise_is_refused() {
    use terrace_core::{ErrorKind, Level, policy::Backlog};
    let refused = |builder: terrace_core::Builder<String, u64, crate::support::Near>| {
        let error = builder.build().expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.to_string()
    };
    assert!(refused(behind()).contains("store"));
    assert!(refused(behind().tier(Fake::named("redis"))).contains("store"));
    for level in [Level::Ttl, Level::Strong, Level::Bounded(ms(1_000))] {
        assert!(refused(behind().store(Fake::named("postgres")).level(level)).contains("Fenced"));
    }
    let with = |change: fn(&mut BehindPlan)| {
        let mut plan = plan();
        change(&mut plan);
        crate::support::builder().write(Behind(plan)).store(Fake::named("postgres"))
    };
    assert!(refused(with(|plan| plan.cap = Backlog::bytes(1).age(ms(84 * 3_600_000)))).contains("3.5 days"));
    assert!(refused(with(|plan| plan.batch = 0)).contains("at least 1"));
}
