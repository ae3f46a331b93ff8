//! Level `Strong`: only the store answers, to a request that was sent after the call began.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use support::{FixedExpiry, FixedStampede, Loader, OnStaleHit, Stack, builder, fake, ms, pass, without_near};
use terrace_conformance::{Call, Fake};
use terrace_core::{
    ErrorKind, Level, MissingKeys, Source,
    policy::{Coalesce, Freshness, OnStale, StaleHit},
};
use terrace_tier::{Clock, ManualClock};

const STORE: Source = Source::Store("db");

struct Servers {
    hand: ManualClock,
    redis: Fake,
    db: Fake,
    here: Stack,
    /// Another process, whose writes no log reports.
    writer: Stack,
}

fn servers() -> Servers {
    let hand = Clock::manual();
    let (redis, db) = (fake("redis", &hand).with_log(), fake("db", &hand));
    let here = builder().clock(&hand).level(Level::Strong);
    let here = here.tier(redis.clone()).store(db.clone()).build().unwrap();
    let writer = without_near().clock(&hand).level(Level::Strong).store(db.another_handle()).build().unwrap();
    Servers { hand, redis, db, here, writer }
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_another_process_is_seen_at_once_by_every_method() {
    let Servers { redis, here, writer, .. } = &servers();
    redis.log().beat();
    here.put("k", 0).await.unwrap();
    let fenced = here.with(Level::Fenced);
    assert_eq!(*fenced.get("k").await.unwrap().unwrap(), 0);
    for value in 1..5 {
        writer.put("k", value).await.unwrap();
        assert_eq!(
            *fenced.get("k").await.unwrap().unwrap(),
            0,
            "near and Redis must still have the old value"
        );
        let loader = Loader::default();
        let got = match value {
            1 => here.get("k").await.unwrap().unwrap(),
            2 => here.get_or_load("k", || loader.give(9, ms(0))).await.unwrap(),
            3 => here.get_many(&keys(&["k"])).await.into_values().unwrap()[0].clone().unwrap(),
            _ => {
                let load = |missing: MissingKeys<String>| async move {
                    Ok::<_, std::io::Error>(
                        missing.keys().iter().map(|key| (key.clone(), 9)).collect::<Vec<_>>(),
                    )
                };
                here.get_or_load_many(&keys(&["k"]), load).await.into_values().unwrap()[0].clone().unwrap()
            }
        };
        assert_eq!((*got, got.served().from, loader.runs()), (value, STORE, 0));
    }
    writer.remove("k").await.unwrap();
    assert!(fenced.contains("k").await.unwrap());
    assert!(!here.contains("k").await.unwrap());
    assert_eq!(here.ttl("k").await.unwrap(), None);
    assert!(here.get_many(&keys(&["k"])).await.into_values().unwrap()[0].is_none());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_load_once() {
    let Servers { db, here, .. } = &servers();
    let loader = Loader::default();
    let callers = (0..1_000).map(|_| {
        let (here, loader) = (here.clone(), loader.clone());
        tokio::spawn(async move { *here.get_or_load("k", || loader.give(1, ms(50))).await.unwrap() })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), 1);
    }
    assert_eq!(loader.runs(), 1);
    assert_eq!(db.calls().of(Call::Fill), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_shared_a_load_and_read_the_store_again_counts_as_coalesced() {
    let Servers { here, .. } = &servers();
    let loader = Loader::default();
    let call = || here.get_or_load("k", || loader.give(1, ms(50)));
    let (first, second) = tokio::join!(call(), call());
    let coalesced = [first, second].map(|answer| answer.unwrap().served().coalesced);
    assert_eq!((coalesced, loader.runs(), here.stats().coalesced), ([false, true], 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_batches_load_once() {
    let Servers { here, .. } = &servers();
    let loader = Loader::default();
    let callers = (0..1_000).map(|_| {
        let (here, loader) = (here.clone(), loader.clone());
        tokio::spawn(async move {
            let load = |missing: MissingKeys<String>| {
                let (load, count) = (loader.give(1, ms(50)), missing.keys().len());
                async move { load.await.map(|value| missing.zip(vec![value; count])) }
            };
            let values = here.get_or_load_many(&keys(&["a", "b", "a"]), load).await.into_values().unwrap();
            values.into_iter().flatten().map(|value| *value).sum::<u64>()
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), 3);
    }
    assert_eq!(loader.runs(), 1);
}

/// A late notice says only that the key has changed, so calls after it must begin a new load.
#[tokio::test(start_paused = true)]
async fn a_removal_reported_late_has_a_load_begin_again_and_all_agree() {
    let Servers { hand, here, redis, db, .. } = &servers();
    let there = without_near().clock(hand).level(Level::Strong).tier(redis.another_handle());
    let there = there.store(db.another_handle()).build().unwrap();
    redis.log().beat();
    there.put("k", 0).await.unwrap();
    redis.log().hold(true);
    there.remove("k").await.unwrap();
    let loader = Loader::default();
    let get = |value| {
        let (here, loader) = (here.clone(), loader.clone());
        tokio::spawn(async move { *here.get_or_load("k", || loader.give(value, ms(50))).await.unwrap() })
    };
    let first = [get(1), get(1)];
    tokio::time::sleep(ms(10)).await;
    redis.log().hold(false);
    redis.log().beat();
    let later = [get(2), get(2)];
    for value in first.into_iter().chain(later) {
        assert_eq!(value.await.unwrap(), 1, "the first load to create the record must win");
    }
    assert_eq!(loader.runs(), 2, "one load before the notice, one after it");
}

/// A batch loads once. If another process removes a record after that load, the batch can neither read
/// nor load the key.
#[tokio::test(start_paused = true)]
async fn a_batch_whose_load_is_spent_tells_no_absence() {
    let Servers { here, writer, .. } = &servers();
    let loader = Loader::default();
    let other = {
        let (here, loader) = (here.clone(), loader.clone());
        tokio::spawn(async move { *here.get_or_load("b", || loader.give(7, ms(20))).await.unwrap() })
    };
    tokio::time::sleep(ms(5)).await;
    let load = |missing: MissingKeys<String>| async move {
        assert_eq!(missing.keys(), ["a"], "the other key is already being loaded");
        tokio::time::sleep(ms(50)).await;
        Ok::<_, std::io::Error>(missing.zip(vec![1]))
    };
    let both = keys(&["a", "b"]);
    let batch = here.get_or_load_many(&both, load);
    let removal = async {
        tokio::time::sleep(ms(30)).await;
        writer.remove("b").await.unwrap();
    };
    let (batch, ()) = tokio::join!(batch, removal);
    let mut answers = batch.into_iter();
    assert_eq!(**answers.next().unwrap().as_ref().unwrap().as_ref().unwrap(), 1);
    assert_eq!(answers.next().unwrap().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(other.await.unwrap(), 7);
}

/// Anomaly 29: the record that an earlier load created may have been replaced before this call.
#[tokio::test(start_paused = true)]
async fn a_caller_that_shared_a_load_reads_what_the_store_has_then() {
    let Servers { here, writer, redis, .. } = &servers();
    let loader = Loader::default();
    let get = |here: Stack, loader: Loader| async move {
        *here.get_or_load("k", || loader.give(1, ms(50))).await.unwrap()
    };
    let first = tokio::spawn(get(here.clone(), loader.clone()));
    tokio::time::sleep(ms(10)).await;
    let second = tokio::spawn(get(here.clone(), loader.clone()));
    // The fill of the tier delays the end of the flight after its callers were answered.
    redis.set_latency(ms(40));
    tokio::time::sleep(ms(45)).await;
    writer.put("k", 2).await.unwrap();
    assert_eq!(first.await.unwrap(), 1);
    assert!(second.await.unwrap() >= 1);
    let third = get(here.clone(), loader.clone()).await;
    assert_eq!((third, loader.runs()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_an_error_and_never_a_stale_value() {
    struct Serve;
    impl Freshness for Serve {
        fn on_stale(&self, _hit: &StaleHit) -> OnStale {
            OnStale::Serve
        }
        fn on_error(&self, _hit: &StaleHit) -> bool {
            true
        }
    }
    let Servers { hand, redis, db, .. } = &servers();
    let stack = builder().clock(hand).level(Level::Strong).freshness(Serve).tier(redis.another_handle());
    let here = stack.store(db.another_handle()).build().unwrap();
    here.put("k", 1).await.unwrap();
    db.set_down(true);
    let loader = Loader::default();
    let load = |missing: MissingKeys<String>| async move { Ok::<_, std::io::Error>(missing.zip(vec![1])) };
    assert_eq!(here.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = here.get_or_load("k", || loader.give(1, ms(0))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for many in [here.get_many(&keys(&["k"])).await, here.get_or_load_many(&keys(&["k"]), load).await] {
        assert_eq!(many.into_values().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(here.ttl("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(loader.runs(), 0);
}

/// A freshness policy may serve a stale copy, but never to a call that must ask the store.
#[tokio::test(start_paused = true)]
async fn a_stale_copy_of_a_removed_record_is_no_answer() {
    for policy in [OnStale::Serve, OnStale::ServeAndRefresh] {
        let Servers { hand, redis, db, writer, .. } = &servers();
        let stack = without_near().clock(hand).level(Level::Strong).freshness(OnStaleHit(policy));
        let stack = stack.expire(FixedExpiry::fresh(ms(1_000)).stale(ms(60_000)));
        let here = stack.tier(redis.another_handle()).store(db.another_handle()).build().unwrap();
        for key in ["k", "l"] {
            writer.put(key, 1).await.unwrap();
            here.with(Level::Fenced).get(key).await.unwrap();
            here.settled().await;
            writer.remove(key).await.unwrap();
        }
        let copy = here.with(Level::Fenced).get("k").await.unwrap().unwrap();
        assert_eq!(copy.served().from, Source::Tier("redis"));
        pass(hand, ms(2_000)).await;
        let loader = Loader::default();
        assert_eq!(*here.get_or_load("k", || loader.give(9, ms(0))).await.unwrap(), 9, "{policy:?}");
        let load =
            |missing: MissingKeys<String>| async move { Ok::<_, std::io::Error>(missing.zip(vec![9])) };
        let many = here.get_or_load_many(&keys(&["l"]), load).await.into_values().unwrap();
        assert!(many[0].as_deref() == Some(&9), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_loader_creates_and_an_absence_stays_one() {
    let hand = Clock::manual();
    let db = fake("db", &hand);
    let load = |key: String| async move { Ok::<_, std::io::Error>((key == "here").then_some(7)) };
    let stack = builder().clock(&hand).level(Level::Strong).store(db.clone()).loader(load);
    let cache = stack.build().unwrap();
    assert_eq!(*cache.get("here").await.unwrap().unwrap(), 7);
    assert!(cache.get("gone").await.unwrap().is_none());
    let many = cache.get_many(&keys(&["gone", "here"])).await.into_values().unwrap();
    assert!(many[0].is_none() && many[1].as_deref() == Some(&7));
}

#[tokio::test(start_paused = true)]
async fn callers_that_share_no_loads_agree_on_the_record() {
    let hand = Clock::manual();
    let stack = builder()
        .clock(&hand)
        .level(Level::Strong)
        .store(fake("db", &hand))
        .stampede(FixedStampede(Coalesce::Nobody));
    let cache = stack.build().unwrap();
    let loader = Loader::default();
    let callers = (0..10).map(|value| {
        let (cache, loader) = (cache.clone(), loader.clone());
        tokio::spawn(async move { *cache.get_or_load("k", || loader.give(value, ms(5))).await.unwrap() })
    });
    let mut values = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        values.push(caller.await.unwrap());
    }
    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
    assert_eq!(loader.runs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_its_own_key_is_told() {
    let Servers { here, .. } = &servers();
    let inner = here.clone();
    let error = here
        .get_or_load("k", || async move {
            inner.get_or_load("k", || async { Ok::<_, std::io::Error>(1) }).await.map(|value| *value)
        })
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("would wait for itself"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn processes_that_wait_for_each_other_read_what_the_store_has() {
    for coalesce in [Coalesce::Lease, Coalesce::LeaseOrStale] {
        let hand = Clock::manual();
        let (redis, db) = (fake("redis", &hand).with_log(), fake("db", &hand));
        let process = || {
            let stack = builder().clock(&hand).level(Level::Strong).stampede(FixedStampede(coalesce));
            stack.tier(redis.another_handle()).store(db.another_handle()).build().unwrap()
        };
        let (here, there) = (process(), process());
        // Redis keeps a copy that no strong read may return: the record is removed without any report.
        here.put("k", 0).await.unwrap();
        here.with(Level::Fenced).get("k").await.unwrap();
        here.settled().await;
        let writer = without_near().clock(&hand).level(Level::Strong).store(db.another_handle());
        writer.build().unwrap().remove("k").await.unwrap();
        let loader = Loader::default();
        let get = |cache: &Stack, value| {
            let (cache, loader) = (cache.clone(), loader.clone());
            tokio::spawn(
                async move { *cache.get_or_load("k", || loader.give(value, ms(300))).await.unwrap() },
            )
        };
        let first = get(&here, 1);
        tokio::time::sleep(ms(20)).await;
        let second = get(&there, 2);
        assert_eq!(first.await.unwrap(), 1, "{coalesce:?}");
        assert_eq!(second.await.unwrap(), 1, "{coalesce:?}: the first load to create the record must win");
        for cache in [&here, &there] {
            cache.settled().await;
            assert_eq!(*cache.get("k").await.unwrap().unwrap(), 1);
            assert_eq!(*cache.with(Level::Fenced).get("k").await.unwrap().unwrap(), 1, "{coalesce:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_reads_the_store() {
    let Servers { here, writer, .. } = &servers();
    here.put("k", 1).await.unwrap();
    writer.put("k", 2).await.unwrap();
    let loader = Loader::default();
    let value = here.refresh("k", |_| loader.give(9, ms(0))).await.unwrap().unwrap();
    assert_eq!((*value, loader.runs()), (2, 0));
    assert_eq!(
        *here.with(Level::Fenced).get("k").await.unwrap().unwrap(),
        2,
        "the refresh must replace the copies"
    );
}
