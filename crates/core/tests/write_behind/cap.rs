//! A full backlog.

use terrace_conformance::Fake;
use terrace_core::{
    ErrorKind,
    policy::{Backlog, WhenFull},
};

use super::{Behind, plan};
use crate::support::{Stack, builder, ms};

/// Space for some three keys.
fn full(store: &Fake, when_full: WhenFull) -> Stack {
    let mut plan = plan();
    plan.cap = Backlog::bytes(1_000).when_full(when_full);
    builder().write(Behind(plan)).store(store.clone()).build().unwrap()
}

/// Fills the backlog of a cache whose store goes away, and returns the number of its keys.
async fn filled(cache: &Stack, store: &Fake) -> u64 {
    cache.put("first", 0).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    let mut keys = 0;
    while cache.backlog().bytes + 300 < 1_000 {
        cache.put(&format!("k{keys}"), keys).await.unwrap();
        keys += 1;
    }
    keys
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_rejects_at_once_and_hits_go_on() {
    let store = Fake::named("postgres");
    let cache = full(&store, WhenFull::Reject);
    let keys = filled(&cache, &store).await;
    let began = tokio::time::Instant::now();
    let error = cache.put("more", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backlog);
    assert!(
        error.is_transient() && error.to_string().contains("the write-behind backlog is full"),
        "{error}"
    );
    assert_eq!(began.elapsed(), ms(0));
    assert_eq!(cache.get("k0").await.unwrap().unwrap(), 0);
    store.set_down(false);
    cache.flush().await.unwrap();
    cache.put("more", 1).await.unwrap();
    assert_eq!(cache.stats().writes_blocked, 1);
    assert!(keys > 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_blocks_until_there_is_space_and_no_longer_than_30_seconds() {
    let store = Fake::named("postgres");
    let cache = full(&store, WhenFull::Block);
    filled(&cache, &store).await;
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put("more", 1).await }
    });
    tokio::time::sleep(ms(5_000)).await;
    assert!(!waiting.is_finished());
    store.set_down(false);
    waiting.await.unwrap().unwrap();
    cache.flush().await.unwrap();
    assert!(cache.stats().blocked_micros >= 5_000_000);
    filled(&cache, &store).await;
    let began = tokio::time::Instant::now();
    assert_eq!(cache.put("late", 1).await.unwrap_err().kind(), ErrorKind::Backlog);
    assert!(began.elapsed() >= ms(30_000) && began.elapsed() < ms(31_000), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_makes_writes_wait_for_their_own_flush() {
    let store = Fake::named("postgres");
    let cache = full(&store, WhenFull::SyncWrite);
    filled(&cache, &store).await;
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put("more", 1).await }
    });
    tokio::time::sleep(ms(1_000)).await;
    assert!(!waiting.is_finished());
    assert_eq!(cache.get("more").await.unwrap().unwrap(), 1, "the front has it");
    store.set_down(false);
    waiting.await.unwrap().unwrap();
    assert_eq!(cache.backlog().keys, 0);
    filled(&cache, &store).await;
    assert_eq!(cache.put("late", 1).await.unwrap_err().kind(), ErrorKind::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_is_too_old_is_full() {
    let store = Fake::named("postgres");
    let mut plan = plan();
    plan.cap = Backlog::bytes(1 << 20).age(ms(2_000)).when_full(WhenFull::Reject);
    let cache = builder().write(Behind(plan)).store(store.clone()).build().unwrap();
    cache.put("first", 0).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    cache.put("k", 1).await.unwrap();
    tokio::time::sleep(ms(1_900)).await;
    cache.put("k", 2).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(cache.put("k", 3).await.unwrap_err().kind(), ErrorKind::Backlog);
}

#[tokio::test(start_paused = true)]
async fn a_value_larger_than_the_cap_fits_into_an_empty_backlog() {
    let store = Fake::named("postgres");
    let mut plan = plan();
    plan.cap = Backlog::bytes(10);
    let cache = builder().write(Behind(plan)).store(store).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.put("l", 1).await.unwrap();
    cache.flush().await.unwrap();
}
