//! The callers that share a flight.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use terrace_core::{BoxError, Builder, Source, policy::Coalesce};
use terrace_tier::Clock;
use terrace_tier_memory::Memory;

use crate::support::{FixedStampede, Loader, Stack, builder, fake, local, ms, without_near};

#[tokio::test(start_paused = true)]
async fn loads_that_are_not_shared_fill_near_while_others_are_under_way() {
    let cache = builder().stampede(FixedStampede(Coalesce::Nobody)).build().unwrap();
    let loader = Loader::default();
    let caller = async |start, value| {
        tokio::time::sleep(ms(start)).await;
        *cache.get_or_load("k", || loader.give(value, ms(50))).await.unwrap()
    };
    let late = async {
        tokio::time::sleep(ms(60)).await;
        cache.get("k").await.unwrap().map(|hit| (*hit, hit.served().from))
    };
    let (first, second, late) = tokio::join!(caller(0, 1), caller(30, 2), late);
    assert_eq!((first, second, loader.runs()), (1, 2, 2));
    assert_eq!(late, Some((1, Source::Near)));
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_load() {
    let (cache, loader) = (local(), Loader::default());
    let callers = (0..1000).map(|_| cache.get_or_load("k", || loader.give(7, ms(50))));
    for value in join_all(callers).await {
        assert_eq!(value.unwrap(), 7);
    }
    assert_eq!(loader.runs(), 1);
    assert_eq!(cache.stats().coalesced, 999);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn all_methods_share_one_flight() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    tier.set_latency(ms(5));
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let loader = Loader::default();
    let reads = join_all((0..50).map(|_| cache.get("k")));
    let loads = join_all((0..50).map(|_| cache.get_or_load("k", || loader.give(1, ms(20)))));
    let with = cache.get_or_load_with("k", |_| loader.give(1, ms(20)));
    let many = [String::from("k")];
    let many = cache.get_many(&many);
    let (reads, loads, with, many) = tokio::join!(reads, loads, with, many);
    assert!(reads.into_iter().all(|read| read.unwrap().is_none()));
    assert!(loads.into_iter().all(|load| load.unwrap() == 1));
    assert_eq!(with.unwrap().unwrap(), 1);
    assert!(many.into_values().unwrap()[0].is_none());
    assert_eq!(loader.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grouped_load_asks_only_for_what_nobody_is_loading() {
    let (cache, loader) = (local(), Loader::default());
    cache.put("near", 1).await.unwrap();
    let single = cache.get_or_load("flying", || loader.give(2, ms(50)));
    let keys = ["near", "flying", "cold", "gone", "cold"].map(String::from);
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let many = async {
        tokio::time::sleep(ms(5)).await;
        cache
            .get_or_load_many(&keys, |missing| {
                seen.lock().unwrap().extend(missing.keys().to_vec());
                assert_eq!(missing.indices(), [2, 3]);
                async move { Ok::<_, BoxError>(vec![("cold".to_owned(), 3)]) }
            })
            .await
    };
    let (single, many) = tokio::join!(single, many);
    assert_eq!(single.unwrap(), 2);
    let values: Vec<_> =
        many.into_values().unwrap().into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(values, [Some(1), Some(2), Some(3), None, Some(3)]);
    assert_eq!(*asked.lock().unwrap(), ["cold", "gone"]);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_keys_are_one_trip() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let cache = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    cache.put_many(keys.iter().cloned().zip(0..100)).await.into_iter().for_each(|put| {
        put.unwrap();
    });
    let before = tier.calls().trips();
    let values = cache.get_many(&keys).await.into_values().unwrap();
    assert_eq!(tier.calls().trips() - before, 1);
    assert!(values.iter().enumerate().all(|(at, value)| value.as_deref() == Some(&(at as u64))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_on_many_threads_that_race_with_the_end_of_a_load_do_not_load_again() {
    const KEYS: usize = 20_000;
    let builder = Builder::new("tests".to_owned(), Memory::entries(100_000));
    let cache: Stack = builder.build().unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let caller = || {
        let (cache, runs) = (cache.clone(), Arc::clone(&runs));
        tokio::spawn(async move {
            for key in 0..KEYS {
                let runs = Arc::clone(&runs);
                let load = async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, BoxError>(1)
                };
                cache.get_or_load(&key.to_string(), || load).await.unwrap();
            }
        })
    };
    join_all((0..4).map(|_| caller())).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(runs.load(Ordering::SeqCst), KEYS);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_flight_another_caller_has_loaded_counts_as_coalesced() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    tier.set_latency(ms(5));
    let cache = builder().clock(&hand).tier(tier).build().unwrap();
    let (refreshing, loader) = (Loader::default(), Loader::default());
    let load = refreshing.give(2, ms(20));
    let mut refresh = pin!(cache.refresh("k", |_| async { load.await.map(Some) }));
    assert!(futures_util::poll!(&mut refresh).is_pending());
    // This caller joins the flight of the refresh, and loads while the refresh is not polled.
    assert_eq!(cache.get_or_load("k", || loader.give(1, ms(20))).await.unwrap(), 1);
    let answer = refresh.await.unwrap().unwrap();
    assert_eq!((*answer, answer.served().coalesced), (1, true));
    assert_eq!((refreshing.runs(), loader.runs(), cache.stats().coalesced), (0, 1, 1));
}
