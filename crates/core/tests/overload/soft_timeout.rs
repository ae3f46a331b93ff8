//! Where an origin hangs, the first reader of a stale value waits for the soft timeout, and no other one.

use std::time::Duration;

use terrace_core::{BoxError, ErrorKind, MissingKeys, policy::Coalesce};
use terrace_tier::Clock;
use tokio::time::Instant;

use crate::{
    begin, secs,
    support::{FixedStampede, Loader, ServeOnError, builder, fake, ms, pass},
    with_stale_time,
};

const SOFT: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_first_reader_waits_for_the_soft_timeout_and_the_others_get_the_stale_value_at_once() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let began = Instant::now();
    let answer = cache.get_or_load("k", || loader.give(2, secs(20))).await.unwrap();
    assert_eq!((*answer, answer.served().stale, began.elapsed()), (1, true, SOFT));
    // The load is still under way: a try means to join it, and it has lasted too long already.
    for _ in 0..180 {
        let began = Instant::now();
        assert_eq!(cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 1);
        assert_eq!(began.elapsed(), ms(0));
        pass(&hand, ms(100)).await;
    }
    assert_eq!((loader.runs(), cache.stats().soft_timeouts > 1), (1, true));
    // Its value is kept when it ends.
    cache.settled().await;
    let answer = cache.get("k").await.unwrap().unwrap();
    assert_eq!((*answer, answer.served().stale, cache.stats().keys_in_backoff), (2, false, 0));
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_hangs_for_ever_is_called_once_per_deadline_or_pause() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).load_deadline(secs(5)).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let mut slow = 0;
    for _ in 0..600 {
        let began = Instant::now();
        assert_eq!(cache.get_or_load("k", || loader.give(3, secs(3_600))).await.unwrap(), 1);
        slow += usize::from(began.elapsed() > ms(1));
        pass(&hand, ms(100)).await;
    }
    // In 60 to 67 seconds: at 0, then at each deadline while the pauses are shorter, then after 8 and 16 s.
    assert!((4..=7).contains(&loader.runs()), "{} calls", loader.runs());
    assert_eq!(slow, loader.runs(), "one reader waits for each call");
}

#[tokio::test(start_paused = true)]
async fn readers_that_join_a_load_wait_no_longer_than_its_soft_timeout() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).soft_timeout(ms(300)).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let first = begin(&cache, "k", loader.give(2, secs(5))).await;
    tokio::time::sleep(ms(200)).await;
    let began = Instant::now();
    assert_eq!(cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 1);
    assert_eq!(began.elapsed(), ms(100));
    assert_eq!((first.await.unwrap().unwrap(), loader.runs()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_load_within_the_soft_timeout_gives_the_new_value_to_all_who_wait() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let first = begin(&cache, "k", loader.give(2, ms(900))).await;
    assert_eq!(cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 2);
    assert_eq!((first.await.unwrap().unwrap(), cache.stats().stale_served), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_a_stale_value_and_a_refresh_wait_for_the_load() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).load_deadline(secs(3)).build().unwrap();
    let loader = Loader::default();
    assert_eq!(cache.get_or_load("new", || loader.give(1, secs(2))).await.unwrap(), 1);
    hand.advance(secs(2));
    assert_eq!(cache.refresh("new", |_| loader.give(2, secs(2))).await.unwrap().unwrap(), 2);
    let hung = cache.get_or_load("k", std::future::pending::<Result<u64, BoxError>>).await;
    assert_eq!(hung.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_stale_time_ends_during_the_wait_is_not_served() {
    let hand = Clock::manual();
    let lives = crate::support::FixedExpiry::fresh(ms(1_000)).stale(ms(500));
    let cache = builder().clock(&hand).expire(lives).freshness(ServeOnError).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    hand.advance(ms(1_200));
    let read = begin(&cache, "k", loader.give(2, secs(4))).await;
    hand.advance(ms(400));
    assert_eq!(read.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn in_a_batch_only_the_keys_without_a_stale_value_wait_for_the_load() {
    let hand = Clock::manual();
    let cache = with_stale_time(&hand).freshness(ServeOnError).build().unwrap();
    let keys = ["a".to_owned(), "b".to_owned()];
    for key in &keys {
        cache.put(key, 1).await.unwrap();
    }
    hand.advance(secs(2));
    let load = |missing: MissingKeys<String>| async move {
        tokio::time::sleep(secs(3)).await;
        let values = vec![2; missing.keys().len()];
        Ok::<_, BoxError>(missing.zip(values))
    };
    let began = Instant::now();
    let values = cache.get_or_load_many(&keys, load).await.into_values().unwrap();
    assert!(values.into_iter().all(|value| value.as_deref() == Some(&1)));
    assert_eq!(began.elapsed(), SOFT);
    cache.settled().await;
    assert_eq!(cache.get("b").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_one_reader_for_the_soft_timeout() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = with_stale_time(&hand).freshness(ServeOnError).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    store.set_latency(secs(2));
    let began = Instant::now();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    assert_eq!(began.elapsed(), SOFT);
    let began = Instant::now();
    assert!(cache.get("k").await.unwrap().unwrap().served().stale);
    let many = cache.get_many(&["k".to_owned()]).await.into_values().unwrap();
    assert_eq!((many[0].as_deref(), began.elapsed()), (Some(&1), ms(0)));
    // A store that is slow, and does answer, renews the copy all the same.
    cache.settled().await;
    assert!(!cache.get("k").await.unwrap().unwrap().served().stale);
    assert_eq!(cache.stats().keys_in_backoff, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_another_process_counts_for_the_soft_timeout() {
    let hand = Clock::manual();
    let (tier, loader) = (fake("redis", &hand), Loader::default());
    let process = |tier| {
        let builder = with_stale_time(&hand).near(crate::support::Near::off()).tier(tier);
        builder.freshness(ServeOnError).stampede(FixedStampede(Coalesce::Lease)).build().unwrap()
    };
    let (a, b) = (process(tier.clone()), process(tier.another_handle()));
    a.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let held = begin(&a, "k", loader.give(2, secs(4))).await;
    let began = Instant::now();
    assert_eq!(b.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 1);
    assert_eq!(began.elapsed(), SOFT);
    assert_eq!((held.await.unwrap().unwrap(), loader.runs()), (1, 1));
    a.settled().await;
    b.settled().await;
    assert_eq!((*b.get("k").await.unwrap().unwrap(), loader.runs()), (2, 1));
}
