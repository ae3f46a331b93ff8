//! Beyond the limit of loads: a short queue, then `Busy`.

use futures_util::future::join_all;
use terrace_core::{BoxError, ErrorKind, MissingKeys};
use terrace_tier::Clock;
use tokio::time::Instant;

use crate::{
    begin, secs, settle,
    support::{FixedStampede, Loader, ServeOnError, builder, fake, local, ms, without_near},
    with_stale_time,
};

#[tokio::test(start_paused = true)]
async fn a_load_beyond_the_limit_waits_in_a_short_queue_and_then_its_callers_get_busy() {
    let (cache, loader) = (builder().max_loads(2).build().unwrap(), Loader::default());
    let held = [
        begin(&cache, "a", loader.give(1, secs(1))).await,
        begin(&cache, "b", loader.give(2, secs(1))).await,
    ];
    assert_eq!((cache.stats().loads_under_way, loader.runs()), (2, 2));
    let began = Instant::now();
    let error = cache.get_or_load("c", || loader.give(3, ms(1))).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Busy, true));
    assert!(error.to_string().contains("2 loads are under way"), "{error}");
    assert!(began.elapsed() >= ms(100) && began.elapsed() <= ms(102), "{:?}", began.elapsed());
    assert_eq!((loader.runs(), cache.stats().loads_refused, cache.stats().flights), (2, 1, 2));
    for call in held {
        call.await.unwrap().unwrap();
    }
    assert_eq!(cache.get_or_load("c", || loader.give(3, ms(1))).await.unwrap(), 3);
    assert_eq!((cache.stats().loads_under_way, cache.stats().loads), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_load_in_the_queue_runs_as_soon_as_another_ends() {
    let (cache, loader) = (builder().max_loads(1).build().unwrap(), Loader::default());
    let first = begin(&cache, "a", loader.give(1, ms(40))).await;
    let began = Instant::now();
    assert_eq!(cache.get_or_load("b", || loader.give(2, ms(40))).await.unwrap(), 2);
    assert!(began.elapsed() <= ms(82), "{:?}", began.elapsed());
    assert_eq!((first.await.unwrap().unwrap(), cache.stats().loads_refused), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_as_long_as_the_limit_and_a_further_load_is_refused_at_once() {
    let (cache, loader) = (builder().max_loads(3).build().unwrap(), Loader::default());
    for key in 0..6 {
        drop(begin(&cache, key.to_string(), loader.give(key, secs(1))).await);
    }
    let stats = cache.stats();
    assert_eq!((stats.loads_under_way, stats.loads_waiting, loader.runs()), (3, 3, 3));
    let began = Instant::now();
    let error = cache.get_or_load("over", || loader.give(0, ms(1))).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Busy, ms(0)));
}

#[tokio::test(start_paused = true)]
async fn of_many_misses_at_once_no_more_than_128_run_unless_another_limit_is_set() {
    let (cache, loader) = (local(), Loader::default());
    let calls = (0..1_000).map(|key: u64| {
        let (cache, loader) = (cache.clone(), loader.clone());
        tokio::spawn(async move { cache.get_or_load(&key.to_string(), || loader.give(key, secs(1))).await })
    });
    let calls: Vec<_> = calls.collect();
    settle().await;
    assert_eq!((loader.runs(), cache.stats().loads_under_way, cache.stats().loads_waiting), (128, 128, 128));
    let answers = join_all(calls).await;
    let loaded = answers.iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count();
    assert_eq!((loaded, cache.stats().loads_refused), (128, 1_000 - 128));
}

#[tokio::test(start_paused = true)]
async fn followers_and_waits_for_other_processes_count_for_nothing() {
    let hand = Clock::manual();
    let (tier, loader) = (fake("redis", &hand), Loader::default());
    let process = |tier| {
        let lease = FixedStampede(terrace_core::policy::Coalesce::Lease);
        without_near().clock(&hand).tier(tier).stampede(lease).max_loads(1)
    };
    let (a, b) = (process(tier.clone()), process(tier.another_handle()));
    let (a, b) = (a.build().unwrap(), b.near(crate::support::Near::off()).build().unwrap());
    let held = begin(&a, "k", loader.give(1, secs(2))).await;
    let followers: Vec<_> = join_all((0..50).map(|_| begin(&a, "k", loader.give(2, ms(1))))).await;
    let waits = begin(&b, "k", loader.give(3, ms(1))).await;
    assert_eq!((a.stats().loads_under_way, b.stats().loads_under_way), (1, 0));
    assert_eq!(b.get_or_load("other", || loader.give(9, ms(1))).await.unwrap(), 9);
    assert_eq!((held.await.unwrap().unwrap(), waits.await.unwrap().unwrap()), (1, 1));
    assert!(join_all(followers).await.into_iter().all(|answer| answer.unwrap().unwrap() == 1));
    assert_eq!((loader.runs(), a.stats().loads_refused + b.stats().loads_refused), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn one_load_of_a_batch_counts_as_one_and_is_refused_as_one() {
    let cache = builder().max_loads(1).build().unwrap();
    let keys: Vec<String> = (0..20).map(|key| key.to_string()).collect();
    let load = |missing: MissingKeys<String>| async move {
        tokio::time::sleep(secs(1)).await;
        let values = vec![1; missing.keys().len()];
        Ok::<_, BoxError>(missing.zip(values))
    };
    let calls = tokio::spawn({
        let (cache, keys) = (cache.clone(), keys.clone());
        async move { cache.get_or_load_many(&keys, load).await.into_values() }
    });
    settle().await;
    assert_eq!(cache.stats().loads_under_way, 1);
    let others: Vec<String> = (20..30).map(|key| key.to_string()).collect();
    let answers = cache.get_or_load_many(&others, load).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().kind() == ErrorKind::Busy));
    assert_eq!(calls.await.unwrap().unwrap().len(), 20);
    assert_eq!((cache.stats().loads_refused, cache.stats().flights), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_a_stale_value_answers_at_once_where_the_policy_serves_it_on_errors() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).max_loads(1).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let held = begin(&cache, "a", loader.give(2, secs(1))).await;
    let began = Instant::now();
    let answer = cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap();
    assert_eq!((*answer, answer.served().stale, began.elapsed()), (1, true, ms(0)));
    assert_eq!((loader.runs(), cache.stats().loads_refused), (1, 1));
    held.await.unwrap().unwrap();
    hand.advance(secs(2));
    assert_eq!(cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn at_level_strong_a_load_beyond_the_limit_is_busy_and_nothing_stale_answers() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = with_stale_time(&hand).freshness(ServeOnError).store(store).max_loads(1).build().unwrap();
    let strong = cache.with(terrace_core::Level::Strong);
    let loader = Loader::default();
    let held = begin(&cache, "a", loader.give(1, secs(1))).await;
    let error = strong.get_or_load("k", || loader.give(2, ms(1))).await.unwrap_err();
    assert_eq!((error.kind(), loader.runs()), (ErrorKind::Busy, 1));
    held.await.unwrap().unwrap();
    assert_eq!(strong.get_or_load("k", || loader.give(2, ms(1))).await.unwrap(), 2);
}
