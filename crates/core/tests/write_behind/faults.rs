//! A store or tier that does not answer, or refuses.

use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::ErrorKind;
use terrace_tier::Role;

use super::{Behind, behind, has, plan, stack};
use crate::support::{builder, ms};

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_puts_and_dirty_reads_go_on_and_all_is_flushed_later() {
    let store = Fake::named("postgres");
    let cache = stack(&store);
    cache.put("first", 0).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    for number in 0..100 {
        cache.put(&format!("k{number}"), number).await.unwrap();
    }
    cache.remove("first").await.unwrap();
    tokio::time::sleep(ms(5_000)).await;
    assert_eq!(cache.backlog().keys, 101);
    assert!(cache.backlog().oldest.unwrap() >= ms(5_000));
    assert_eq!(cache.get("k7").await.unwrap().unwrap(), 7);
    assert!(cache.get("first").await.unwrap().is_none());
    store.set_down(false);
    cache.flush().await.unwrap();
    for number in 0..100 {
        assert!(has(&store, Role::Store, &format!("k{number}")).await);
    }
    assert!(!has(&store, Role::Store, "first").await);
    assert!(cache.stats().flush_retries > 0);
}

#[tokio::test(start_paused = true)]
async fn a_front_in_memory_acknowledges_nothing_after_its_hold_and_goes_on_when_the_store_is_back() {
    let store = Fake::named("postgres");
    let cache = stack(&store);
    cache.put("k", 1).await.unwrap();
    store.set_down(true);
    tokio::time::sleep(ms(9_900)).await;
    cache.put("k", 2).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(cache.put("k", 3).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
    store.set_down(false);
    cache.put("k", 4).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 4);
    assert!(has(&store, Role::Store, "k").await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_the_flush_again_and_nothing_older_replaces_a_newer_write() {
    let store = Faulty::new(Fake::named("postgres"));
    let cache = behind().store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    store.arm(Fault::lose_answer().on(Call::Put));
    tokio::time::sleep(ms(51)).await;
    assert_eq!(store.armed(), 0);
    cache.put("k", 2).await.unwrap();
    cache.flush().await.unwrap();
    let reader = builder().store(store.get_ref().another_handle()).build().unwrap();
    assert_eq!(reader.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_statement_does_not_replace_a_newer_flush() {
    let store = Faulty::new(Fake::named("postgres"));
    let cache = behind().store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    // The first flush is given up after the budget of 5 s, and is carried out after the second one.
    store.arm(Fault::delay(ms(6_000)).on(Call::Put));
    tokio::time::sleep(ms(5_100)).await;
    cache.put("k", 2).await.unwrap();
    cache.flush().await.unwrap();
    tokio::time::sleep(ms(2_000)).await;
    let reader = builder().store(store.get_ref().another_handle()).build().unwrap();
    assert_eq!(reader.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_came_during_a_flush_stays_dirty() {
    let store = Faulty::new(Fake::named("postgres"));
    let cache = behind().store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    store.arm(Fault::delay(ms(100)).on(Call::Put).times(2));
    tokio::time::sleep(ms(60)).await;
    cache.put("k", 2).await.unwrap();
    tokio::time::sleep(ms(110)).await;
    assert_eq!(store.armed(), 0, "the second flush is under way");
    assert_eq!(cache.backlog().keys, 1, "the newer write is not flushed yet");
    cache.flush().await.unwrap();
    let reader = builder().store(store.get_ref().another_handle()).build().unwrap();
    assert_eq!(reader.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_is_a_dead_letter_and_the_rest_of_its_batch_is_flushed() {
    let store = Faulty::new(Fake::named("postgres"));
    let mut plan = plan();
    plan.attempts = 1;
    let cache = builder().write(Behind(plan)).store(store.clone()).build().unwrap();
    for key in ["a", "b", "c", "d"] {
        cache.put(key, 1).await.unwrap();
    }
    // The batch of four, one of its halves, and one of its two writes.
    store.arm(Fault::fail(ErrorKind::TooLarge).on(Call::Put).times(3));
    let error = cache.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial);
    let dead = cache.dead_letters().list();
    assert_eq!((dead.len(), dead[0].cause.kind()), (1, ErrorKind::TooLarge));
    let key = String::from_utf8(dead[0].name.key.to_vec()).unwrap();
    assert_eq!(cache.get(&key).await.unwrap().unwrap(), 1, "it is still read");
    assert_eq!((cache.backlog().keys, cache.backlog().dead), (1, 1));
    for other in ["a", "b", "c", "d"] {
        assert_eq!(has(store.get_ref(), Role::Store, other).await, other != key);
    }
    assert!(cache.dead_letters().retry(&key).unwrap());
    cache.flush().await.unwrap();
    assert!(has(store.get_ref(), Role::Store, &key).await);
    assert!(!cache.dead_letters().retry(&key).unwrap());
    assert_eq!(cache.stats().dead_letters, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_discarded_or_replaced_by_a_new_put() {
    let store = Faulty::new(Fake::named("postgres"));
    let mut plan = plan();
    plan.attempts = 2;
    let cache = builder().write(Behind(plan)).store(store.clone()).build().unwrap();
    for _ in 0..2 {
        cache.put("k", 1).await.unwrap();
        store.arm(Fault::fail(ErrorKind::TooLarge).on(Call::Put).times(2));
        assert_eq!(cache.flush().await.unwrap_err().kind(), ErrorKind::Partial);
        assert_eq!(store.armed(), 0);
        if cache.dead_letters().discard("k").unwrap() && cache.get("k").await.unwrap().is_none() {
            assert_eq!(cache.backlog().bytes, 0);
        }
    }
    cache.put("k", 1).await.unwrap();
    store.arm(Fault::fail(ErrorKind::TooLarge).on(Call::Put).times(2));
    cache.flush().await.unwrap_err();
    cache.put("k", 2).await.unwrap();
    assert_eq!(cache.backlog().dead, 0);
    cache.flush().await.unwrap();
    assert!(has(store.get_ref(), Role::Store, "k").await);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_misses_a_flush_is_read_past_until_it_has_dropped_its_copy() {
    let (redis, store) = (Fake::named("redis"), Fake::named("postgres"));
    let cache = crate::support::without_near()
        .write(Behind(plan()))
        .tier(redis.clone())
        .store(store)
        .build()
        .unwrap();
    cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    cache.settled().await;
    redis.set_down(true);
    cache.put("k", 2).await.unwrap();
    cache.flush().await.unwrap();
    redis.set_down(false);
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}
