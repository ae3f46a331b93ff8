//! A stale value that came out of a shared tier is kept near while the origin fails.

use terrace_core::{
    MissingKeys,
    policy::{Admission, AdmitContext},
};
use terrace_tier::Clock;

use crate::{
    secs,
    support::{Loader, ServeOnError, fake, ms, pass},
    with_stale_time,
};

#[tokio::test(start_paused = true)]
async fn a_process_that_never_loaded_the_key_survives_an_outage_of_the_shared_tier_too() {
    let hand = Clock::manual();
    let (tier, loader) = (fake("redis", &hand), Loader::default());
    let writer = with_stale_time(&hand).tier(tier.clone()).build().unwrap();
    writer.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let reader = with_stale_time(&hand).freshness(ServeOnError).tier(tier.another_handle()).build().unwrap();
    assert_eq!(reader.get_or_load("k", || loader.fail(ms(1))).await.unwrap(), 1);
    tier.set_down(true);
    for _ in 0..100 {
        let answer = reader.get_or_load("k", || loader.fail(ms(1))).await.unwrap();
        assert_eq!((*answer, answer.served().stale), (1, true));
        pass(&hand, secs(10)).await;
    }
    pass(&hand, secs(3_600)).await;
    assert!(reader.get_or_load("k", || loader.fail(ms(1))).await.is_err(), "its stale time has ended");
}

#[tokio::test(start_paused = true)]
async fn the_same_holds_where_the_store_fails_and_for_batches() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let keys = ["a".to_owned(), "b".to_owned()];
    let writer = with_stale_time(&hand).near(crate::support::Near::off());
    let writer = writer.tier(tier.clone()).store(store.clone()).build().unwrap();
    for key in &keys {
        writer.put(key, 1).await.unwrap();
        writer.get(key).await.unwrap();
    }
    writer.settled().await;
    hand.advance(secs(2));
    store.set_down(true);
    let reader = with_stale_time(&hand).freshness(ServeOnError).tier(tier.another_handle());
    let reader = reader.store(store.another_handle()).build().unwrap();
    for away in [false, true] {
        tier.set_down(away);
        for answer in reader.get_many(&keys).await.into_values().unwrap() {
            assert!(answer.unwrap().served().stale);
        }
        pass(&hand, secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_grouped_load_that_fails_keeps_the_stale_values_of_its_keys() {
    let hand = Clock::manual();
    let (tier, loader) = (fake("redis", &hand), Loader::default());
    let keys = ["a".to_owned(), "b".to_owned()];
    let writer = with_stale_time(&hand).tier(tier.clone()).build().unwrap();
    for key in &keys {
        writer.put(key, 1).await.unwrap();
    }
    hand.advance(secs(2));
    let reader = with_stale_time(&hand).freshness(ServeOnError).tier(tier.another_handle()).build().unwrap();
    for away in [false, true] {
        tier.set_down(away);
        let load = |_: MissingKeys<String>| {
            let failed = loader.fail(ms(1));
            async move { failed.await.map(|_| Vec::<(String, u64)>::new()) }
        };
        for answer in reader.get_or_load_many(&keys, load).await.into_values().unwrap() {
            assert!(answer.unwrap().served().stale);
        }
        pass(&hand, secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_ends_a_stale_copy_that_was_kept_near() {
    let hand = Clock::manual();
    let (tier, loader) = (fake("redis", &hand), Loader::default());
    let writer = with_stale_time(&hand).tier(tier.clone()).build().unwrap();
    writer.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let reader = with_stale_time(&hand).freshness(ServeOnError).tier(tier.another_handle()).build().unwrap();
    assert_eq!(reader.get_or_load("k", || loader.fail(ms(1))).await.unwrap(), 1);
    reader.invalidate("k").await.unwrap();
    assert!(reader.get_or_load("k", || loader.fail(ms(1))).await.is_err());
}

/// Keeps everything out of the near tier.
struct NothingNear;

impl Admission for NothingNear {
    fn admits(&self, context: &AdmitContext<'_>) -> bool {
        assert!(
            context.tier != "near" || context.size_bytes.is_some_and(|bytes| bytes > 0),
            "the size is known"
        );
        context.tier != "near"
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_that_the_admission_policy_keeps_out_of_near_stays_out() {
    let hand = Clock::manual();
    let (tier, loader) = (fake("redis", &hand), Loader::default());
    let writer = with_stale_time(&hand).tier(tier.clone()).build().unwrap();
    writer.put("k", 1).await.unwrap();
    hand.advance(secs(2));
    let reader =
        with_stale_time(&hand).freshness(ServeOnError).admit(NothingNear).tier(tier.another_handle());
    let reader = reader.build().unwrap();
    assert_eq!(reader.get_or_load("k", || loader.fail(ms(1))).await.unwrap(), 1);
    assert_eq!(reader.stats().near_entries, 0);
}
