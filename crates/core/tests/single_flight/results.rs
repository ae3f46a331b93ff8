//! The answers of a flight: absences, and values whose fills are still under way.

use terrace_conformance::{Call, Fault, Faulty};
use terrace_core::{BoxError, Item};
use terrace_tier::Clock;

use crate::support::{Loader, builder, fake, ms, without_near};

#[tokio::test(start_paused = true)]
async fn an_absent_item_answers_until_its_life_ends() {
    let hand = Clock::manual();
    let cache = builder().clock(&hand).tier(fake("fake", &hand)).build().unwrap();
    let loader = Loader::default();
    for _ in 0..3 {
        let load = |_| {
            let counted = loader.give(0, ms(0));
            async move { counted.await.map(|_| Item::<u64>::absent().ttl(ms(1000))) }
        };
        assert!(cache.get_or_load_with("k", load).await.unwrap().is_none());
        cache.settled().await;
    }
    assert_eq!(loader.runs(), 1);
    hand.advance(ms(1000));
    assert_eq!(cache.get_or_load("k", || loader.give(6, ms(0))).await.unwrap(), 6);
}

/// The fills run off the caller's path. Until they are done, the tiers still have the old value.
#[tokio::test(start_paused = true)]
async fn what_a_refresh_gave_is_read_while_it_is_filled() {
    let hand = Clock::manual();
    let redis = Faulty::new(fake("redis", &hand));
    let cache = without_near().clock(&hand).tier(redis.clone()).build().unwrap();
    let loader = Loader::default();
    cache.put("k", 1).await.unwrap();
    redis.arm(Fault::delay(ms(20)).on(Call::Fill));
    assert_eq!(cache.refresh("k", |_| loader.give(2, ms(1))).await.unwrap().map(|value| *value), Some(2));
    assert_eq!(*cache.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 2);
    let nothing = |_| async { Ok::<Vec<(String, u64)>, BoxError>(vec![]) };
    let many = cache.get_or_load_many(&["k".to_owned()], nothing).await.into_values().unwrap();
    let many: Vec<_> = many.into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(many, [Some(2)]);
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().map(|value| *value), Some(2));
    assert_eq!(loader.runs(), 1);
}
