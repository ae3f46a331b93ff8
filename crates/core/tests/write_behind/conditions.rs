//! Conditional writes, which the front decides.

use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::ErrorKind;

use super::{Behind, behind, plan, stack};
use crate::support::{Loader, ms, without_near};

#[tokio::test(start_paused = true)]
async fn conditions_hold_for_dirty_and_for_clean_keys() {
    let store = Fake::named("postgres");
    let cache = without_near().write(Behind(plan())).store(store).build().unwrap();
    for flushes in [false, true] {
        let key = if flushes { "clean" } else { "dirty" };
        let flushed = async || {
            if flushes {
                cache.flush().await.unwrap();
            }
        };
        assert!(cache.put_if_absent(key, 1).await.unwrap());
        flushed().await;
        assert!(!cache.put_if_absent(key, 2).await.unwrap());
        let seen = cache.get(key).await.unwrap().unwrap().served().version;
        assert!(cache.replace(key, seen, 3).await.unwrap());
        flushed().await;
        assert!(!cache.replace(key, seen, 4).await.unwrap());
        cache.remove(key).await.unwrap();
        flushed().await;
        let seen = cache.put(key, 5).await.unwrap();
        cache.remove(key).await.unwrap();
        assert!(!cache.replace(key, seen, 6).await.unwrap());
        assert!(cache.put_if_absent(key, 7).await.unwrap());
        flushed().await;
        assert_eq!(cache.get(key).await.unwrap().unwrap(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_creators_one_wins_and_replaces_lose_no_update() {
    let cache = without_near().write(Behind(plan())).store(Fake::named("postgres")).build().unwrap();
    let creators = (0..50).map(|value| {
        let cache = cache.clone();
        async move { cache.put_if_absent("k", value).await.unwrap() }
    });
    let won = futures_util::future::join_all(creators).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    cache.put("count", 0).await.unwrap();
    let adders = (0..20).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move {
            loop {
                let seen = cache.get("count").await.unwrap().unwrap();
                match cache.replace("count", seen.served().version, *seen + 1).await {
                    Ok(true) => return,
                    Ok(false) => tokio::task::yield_now().await,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
                }
            }
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        adder.await.unwrap();
    }
    cache.flush().await.unwrap();
    assert_eq!(cache.get("count").await.unwrap().unwrap(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_reads_the_record_sees_a_put_that_came_and_was_flushed_meanwhile() {
    let store = Faulty::new(Fake::named("postgres"));
    let cache = without_near().write(Behind(plan())).store(store.clone()).build().unwrap();
    cache.put("other", 0).await.unwrap();
    store.arm(Fault::delay(ms(500)).on(Call::Lease));
    let creating = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put_if_absent("k", 1).await.unwrap() }
    });
    tokio::time::sleep(ms(10)).await;
    cache.put("k", 2).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(cache.backlog().keys, 0);
    assert!(!creating.await.unwrap(), "the record of the put was there before");
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_lost_to_a_put_returns_the_put_value_and_one_that_lost_to_a_removal_is_not_kept() {
    for flushes in [false, true] {
        let cache = behind().store(Fake::named("postgres")).build().unwrap();
        let loading = |key: &'static str| {
            let cache = cache.clone();
            tokio::spawn(async move {
                *cache.get_or_load(key, || Loader::default().give(1, ms(500))).await.unwrap()
            })
        };
        let (put, removed) = (loading("put"), loading("removed"));
        tokio::time::sleep(ms(10)).await;
        cache.put("put", 2).await.unwrap();
        cache.put("removed", 2).await.unwrap();
        cache.remove("removed").await.unwrap();
        if flushes {
            cache.flush().await.unwrap();
        }
        assert_eq!(put.await.unwrap(), 2);
        assert_eq!(removed.await.unwrap(), 1);
        assert!(cache.get("removed").await.unwrap().is_none());
        cache.flush().await.unwrap();
        assert!(cache.get("removed").await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_over_a_dirty_removal_creates_the_record_anew() {
    let store = Fake::named("postgres");
    let cache = stack(&store);
    cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    cache.remove("k").await.unwrap();
    assert_eq!(cache.get_or_load("k", || Loader::default().give(2, ms(1))).await.unwrap(), 2);
    cache.flush().await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}
