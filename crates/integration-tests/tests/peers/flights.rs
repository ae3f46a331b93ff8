//! Writes and callers during a load of the same key.

use std::{sync::Arc, time::Duration};

use terrace::{BoxError, ErrorKind, near::Near};
use terrace_testbed as testbed;
use tokio::{sync::Notify, time::sleep};

use crate::{
    Loads, Stack, bare, name, process,
    support::{ms, raw_redis, redis_command},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_3_a_value_put_before_the_second_of_two_overlapping_invalidations_is_gone() {
    let (url, namespace) = name("overlap").await;
    let (cache, other) = (process(&url, &namespace), process(&url, &namespace));
    for round in 0..200 {
        cache.put("k", round).await.unwrap();
        let first = tokio::spawn({
            let cache = cache.clone();
            async move { cache.invalidate("k").await }
        });
        if round % 2 == 0 { &cache } else { &other }.put("k", round + 1_000).await.unwrap();
        cache.invalidate("k").await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none(), "round {round}");
        first.await.unwrap().unwrap();
        assert!(cache.get("k").await.unwrap().is_none(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_two_hundred_aborted_leaders_leave_nobody_behind() {
    let (url, namespace) = name("aborted").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    for round in 0..200_u64 {
        let leader = tokio::spawn({
            let (cache, loads) = (cache.clone(), loads.clone());
            async move { cache.get_or_load("k", || loads.run(|| Ok(7))).await }
        });
        sleep(Duration::from_micros(round * 10)).await;
        leader.abort();
    }
    let value = cache.get_or_load("k", || loads.run(|| Ok(7))).await.unwrap();
    assert_eq!(value, 7);
    cache.settled().await;
    assert!(loads.count() < 20, "{} loads", loads.count());
    assert_eq!(cache.stats().flights, 0);
    assert_eq!(bare(&url, &namespace).get("k").await.unwrap().unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_a_panicking_leader_hands_over() {
    let (url, namespace) = name("panic").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    let panics = || loads.run(|| panic!("a loader that panics on purpose"));
    let later = async {
        sleep(ms(10)).await;
        cache.get_or_load("k", || loads.run(|| Ok(7))).await
    };
    let (first, second) = tokio::join!(cache.get_or_load("k", panics), later);
    assert_eq!(second.unwrap(), 7);
    assert!(first.is_ok_and(|value| value == 7) || loads.count() == 2);
    cache.settled().await;
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_the_waiters_of_a_failed_load_do_not_stampede() {
    let (url, namespace) = name("failed").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                let fails = || loads.run(|| Err::<u64, BoxError>("the origin is away".into()));
                cache.get_or_load("k", fails).await.map(|value| *value)
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap_err().kind(), ErrorKind::Load);
    }
    assert_eq!(loads.count(), 1);
}

/// Runs a load of `k` that gives 1. `write` begins and ends while the load is under way.
async fn load_around(cache: &Stack, write: impl Future<Output = ()>) -> u64 {
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&began), Arc::clone(&go));
    let load = cache.get_or_load("k", || async move {
        tell.notify_one();
        wait.notified().await;
        Ok::<_, BoxError>(1)
    });
    let write = async {
        began.notified().await;
        write.await;
        go.notify_one();
    };
    let (loaded, ()) = tokio::join!(load, write);
    cache.settled().await;
    *loaded.unwrap()
}

#[tokio::test]
async fn fault_13_a_put_and_a_remove_during_a_load_stand() {
    let (url, namespace) = name("during").await;
    let (here, there) = (process(&url, &namespace), process(&url, &namespace));
    for writer in [&here, &there] {
        assert_eq!(load_around(&here, async { writer.put("k", 2).await.map(drop).unwrap() }).await, 1);
        assert_eq!(bare(&url, &namespace).get("k").await.unwrap().unwrap(), 2);
        assert_eq!(here.get("k").await.unwrap().unwrap(), 2);
        here.invalidate("k").await.unwrap();
        assert_eq!(load_around(&here, async { writer.remove("k").await.map(drop).unwrap() }).await, 1);
        assert!(bare(&url, &namespace).get("k").await.unwrap().is_none());
        assert!(here.get("k").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn fault_14_all_methods_share_one_load() {
    let (url, namespace) = name("methods").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    let many = ["k".to_owned()];
    let grouped = cache.get_or_load_many(&many, |missing| {
        let load = loads.run(|| Ok(()));
        async move { load.await.map(|()| missing.zip([7_u64])) }
    });
    let (one, with, many) = tokio::join!(
        cache.get_or_load("k", || loads.run(|| Ok(7))),
        cache.get_or_load_with("k", |_| loads.run(|| Ok(Some(7)))),
        grouped,
    );
    assert_eq!((*one.unwrap(), *with.unwrap().unwrap()), (7, 7));
    assert_eq!(*many.into_values().unwrap()[0].clone().unwrap(), 7);
    assert_eq!(loads.count(), 1);
}

#[tokio::test]
async fn fault_15_a_near_hit_joins_no_flight_and_makes_no_trip() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = process(&server.url(), "hits");
    cache.put("k", 7).await.unwrap();
    cache.settled().await;
    let mut raw = raw_redis(&server.url()).await;
    let commands = async |raw: &mut _| -> u64 {
        let stats: String = redis_command(raw, &["INFO", "stats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = commands(&mut raw).await;
    for _ in 0..1_000 {
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 7);
        assert_eq!(cache.get_or_load("k", async || Ok::<u64, BoxError>(0)).await.unwrap(), 7);
        assert_eq!(cache.stats().flights, 0);
    }
    assert_eq!(commands(&mut raw).await, before + 1, "the only command is this test's own INFO");
}

#[tokio::test]
async fn fault_18_a_loader_that_asks_for_its_own_key_gets_a_typed_error() {
    async fn check<N: Near<String, u64>>(cache: Stack<N>) {
        let inner = cache.clone();
        let asks = move || async move {
            let error = inner.get_or_load("k", async || Ok::<u64, BoxError>(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Reentrant);
            Ok::<u64, BoxError>(2)
        };
        assert_eq!(cache.get_or_load("k", asks).await.unwrap(), 2);
    }
    let (url, namespace) = name("reentrant").await;
    check(process(&url, &namespace)).await;
    check(bare(&url, &format!("{namespace}_bare"))).await;
}
