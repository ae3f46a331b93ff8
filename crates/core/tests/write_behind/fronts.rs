//! Fronts that meet, and terms that end.

use terrace_conformance::Fake;
use terrace_core::ErrorKind;
use terrace_tier::{Clock, Deadlines, Op, Order, Reply, Role, Timestamp, Version};

use super::{behind, has, stack};
use crate::support::{Loader, builder, fake, ms};

#[tokio::test(start_paused = true)]
async fn a_second_front_and_a_direct_write_are_refused_while_one_holds_the_namespace() {
    let store = Fake::named("postgres");
    let first = stack(&store);
    first.put("k", 1).await.unwrap();
    first.flush().await.unwrap();
    let second = stack(&store.another_handle());
    assert_eq!(second.put("k", 2).await.unwrap_err().kind(), ErrorKind::NamespaceInUse);
    let direct = builder().store(store.another_handle()).build().unwrap();
    assert_eq!(direct.put("k", 2).await.unwrap_err().kind(), ErrorKind::NamespaceInUse);
    assert_eq!(direct.remove("k").await.unwrap_err().kind(), ErrorKind::NamespaceInUse);
    // Reads go on, and a loaded value is given to its caller and kept nowhere.
    assert_eq!(direct.get("k").await.unwrap().unwrap(), 1);
    assert_eq!(second.get_or_load("absent", || Loader::default().give(7, ms(1))).await.unwrap(), 7);
    assert!(second.get("absent").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_front_that_another_one_replaced_fails_its_flush_and_lists_what_it_had_not_written() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let first = behind().clock(&hand).store(store.clone()).build().unwrap();
    first.put("k", 1).await.unwrap();
    first.flush().await.unwrap();
    store.set_stopped(true);
    first.put("k", 2).await.unwrap();
    let flushing = tokio::spawn({
        let first = first.clone();
        async move { first.flush().await }
    });
    tokio::time::sleep(ms(100)).await;
    hand.advance(ms(11_000));
    let second = behind().clock(&hand).store(store.another_handle()).build().unwrap();
    second.put("k", 3).await.unwrap();
    second.flush().await.unwrap();
    store.set_stopped(false);
    assert_eq!(flushing.await.unwrap().unwrap_err().kind(), ErrorKind::FrontLost);
    let dead = first.dead_letters().list();
    assert_eq!((dead.len(), dead[0].cause.kind()), (1, ErrorKind::FrontLost));
    assert_eq!(first.stats().front_losses, 1);
    first.invalidate("k").await.unwrap();
    assert_eq!(first.get("k").await.unwrap().unwrap(), 3, "a lost front's write is not read");
    assert_eq!(first.put("k", 4).await.unwrap_err().kind(), ErrorKind::NamespaceInUse);
    second.close_within(ms(1_000)).await;
    first.put("k", 4).await.unwrap();
    first.flush().await.unwrap();
    assert!(has(&store, Role::Store, "k").await);
    assert_eq!(first.get("k").await.unwrap().unwrap(), 4);
    assert!(first.dead_letters().list().is_empty(), "the new put replaced it");
}

#[tokio::test(start_paused = true)]
async fn a_new_front_issues_versions_above_those_of_the_store() {
    let (ahead, behind_clock) = (Clock::manual(), Clock::manual());
    ahead.advance(ms(3_600_000));
    let store = fake("postgres", &ahead);
    let direct = builder().store(store.another_handle()).build().unwrap();
    direct.put("k", 1).await.unwrap();
    // The clock of this process is an hour behind.
    let cache = behind().clock(&behind_clock).store(store.clone()).build().unwrap();
    cache.put("k", 2).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(cache.stats().writes_gave_way, 0);
    let reader = builder().store(store.another_handle()).build().unwrap();
    assert_eq!(reader.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_direct_write_after_the_hold_ends_the_front() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = behind().clock(&hand).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    store.set_stopped(true);
    cache.put("k", 2).await.unwrap();
    tokio::time::sleep(ms(60)).await;
    // While the flush is under way, the store's clock passes the end of the hold.
    hand.advance(ms(20_000));
    let direct = builder().clock(&hand).store(store.another_handle()).build().unwrap();
    direct.put("k", 3).await.unwrap();
    store.set_stopped(false);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(cache.flush().await.unwrap_err().kind(), ErrorKind::Partial);
    assert_eq!(cache.dead_letters().list().len(), 1);
    assert_eq!(direct.get("k").await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_finds_a_newer_record_gives_way_to_it() {
    let (redis, store) = (Fake::named("redis"), Fake::named("postgres"));
    let cache = behind().tier(redis).store(store.clone()).build().unwrap();
    let version = cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    cache.put("k", 2).await.unwrap();
    // A record that the front does not know of: its store was restored from a copy that was ahead.
    let term = cache.backlog().term.unwrap();
    let order = Order::Behind { version: Version::from_u64(version.as_u64() + 60_000_000), term };
    let (deadlines, body) = (Deadlines::forever(Timestamp::from_millis(1)), None);
    let removal = Op::Put { order, deadlines, body, tombstone_ttl: ms(60_000) };
    let (tier, key) = super::as_another_process(&store, Role::Store, "k");
    assert!(matches!(tier.apply(&key, removal).await.unwrap(), Reply::Kept(_)));
    cache.flush().await.unwrap();
    assert_eq!((cache.stats().writes_gave_way, cache.backlog().keys), (1, 0));
    assert!(cache.get("k").await.unwrap().is_none());
}
