//! A change of a key during a load or lookup: the callers get the loaded value, but nothing keeps it.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use support::{Loader, Stack, builder, fake, local, ms, without_near};
use terrace_conformance::Call;
use terrace_core::Source;
use terrace_tier::Clock;

/// Starts a load of 50 ms that gives 1, disturbs it after 20 ms, and returns the caller's value.
async fn disturbed(cache: &Stack, loader: &Loader, disturb: impl AsyncFnOnce(&Stack)) -> u64 {
    let load = cache.get_or_load("k", || loader.give(1, ms(50)));
    let disturbance = async {
        tokio::time::sleep(ms(20)).await;
        disturb(cache).await;
    };
    let (value, ()) = tokio::join!(load, disturbance);
    cache.settled().await;
    *value.unwrap()
}

async fn assert_gone(cache: &Stack) {
    assert!(cache.get("k").await.unwrap().is_none(), "nothing may keep the value of a disturbed load");
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn an_invalidate_during_a_load_keeps_it_nowhere() {
    let (cache, loader) = (local(), Loader::default());
    let got = disturbed(&cache, &loader, async |cache| {
        cache.invalidate("k").await.unwrap();
    })
    .await;
    assert_eq!(got, 1);
    assert_gone(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn a_remove_during_a_load_keeps_it_nowhere() {
    let (cache, loader) = (local(), Loader::default());
    disturbed(&cache, &loader, async |cache| {
        cache.remove("k").await.unwrap();
    })
    .await;
    assert_gone(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn a_clear_during_a_load_keeps_it_nowhere() {
    let (cache, loader) = (local(), Loader::default());
    disturbed(&cache, &loader, async |cache| cache.clear().await.unwrap()).await;
    assert_gone(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn a_put_during_a_load_wins() {
    let (cache, loader) = (local(), Loader::default());
    let got = disturbed(&cache, &loader, async |cache| {
        cache.put("k", 2).await.unwrap();
    })
    .await;
    assert_eq!(got, 1);
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_comes_after_an_invalidate_does_not_join_the_load_before_it() {
    let (cache, loader) = (local(), Loader::default());
    let before = cache.get_or_load("k", || loader.give(1, ms(50)));
    let after = async {
        tokio::time::sleep(ms(20)).await;
        cache.invalidate("k").await.unwrap();
        cache.get_or_load("k", || loader.give(2, ms(50))).await
    };
    let (before, after) = tokio::join!(before, after);
    assert_eq!((*before.unwrap(), *after.unwrap()), (1, 2));
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_process_invalidating_during_a_load_keeps_it_nowhere() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let here = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let there = builder().clock(&hand).tier(tier.another_handle()).build().unwrap();
    let loader = Loader::default();
    let got = disturbed(&here, &loader, async |_| {
        there.invalidate("k").await.unwrap();
    })
    .await;
    assert_eq!(got, 1);
    assert_gone(&here).await;
    assert_gone(&there).await;
    assert_eq!(here.stats().tier("fake").unwrap().fills_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn another_process_clearing_during_a_load_keeps_it_nowhere() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let here = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let there = builder().clock(&hand).tier(tier.another_handle()).build().unwrap();
    disturbed(&here, &Loader::default(), async |_| there.clear().await.unwrap()).await;
    assert_gone(&here).await;
}

#[tokio::test(start_paused = true)]
async fn another_process_putting_during_a_load_wins_in_every_tier() {
    let hand = Clock::manual();
    let (near_by, far) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = || builder().clock(&hand).tier(near_by.another_handle()).tier(far.another_handle());
    let (here, there) = (stack().build().unwrap(), stack().build().unwrap());
    disturbed(&here, &Loader::default(), async |_| {
        there.put("k", 2).await.unwrap();
    })
    .await;
    assert_eq!(here.get("k").await.unwrap().unwrap(), 2);
    assert_eq!(there.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_lost_the_lease_keeps_nothing() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let got = disturbed(&cache, &Loader::default(), async |_| {
        assert!(tier.evict("tests", b"k"), "the lease must be there");
    })
    .await;
    assert_eq!(got, 1);
    assert_gone(&cache).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_an_invalidation_overtook_stays_out_of_the_near_tier() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    without_near().clock(&hand).tier(tier.clone()).build().unwrap().put("k", 1).await.unwrap();
    tier.set_latency(ms(30));
    let read = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("k").await }
    });
    tokio::time::sleep(ms(35)).await;
    tier.set_latency(ms(0));
    cache.invalidate("k").await.unwrap();
    let _ = read.await.unwrap().unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn concurrent_puts_leave_near_and_tier_agreeing() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    tier.set_latency(ms(2));
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let plain = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    for round in 0..50 {
        let puts = (0..8).map(|put| cache.put("k", round * 8 + put));
        futures_util::future::join_all(puts).await.into_iter().for_each(|put| {
            put.unwrap();
        });
        let seen = cache.get("k").await.unwrap().unwrap();
        let in_tier = plain.get("k").await.unwrap().unwrap();
        assert_eq!(*seen, *in_tier);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_caller_went_away_reaches_every_tier() {
    let hand = Clock::manual();
    let (near_by, far) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = builder().clock(&hand).tier(near_by.clone()).tier(far.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    far.set_latency(ms(20));
    near_by.set_latency(ms(20));
    assert!(tokio::time::timeout(ms(25), cache.put("k", 2)).await.is_err());
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
    let other = without_near().clock(&hand).tier(near_by).tier(far).build().unwrap();
    assert_eq!(other.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_promotion_the_second_read_is_a_near_hit_and_its_life_is_not_longer() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let writer = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    writer.put_item("k", terrace_core::Item::new(1).ttl(ms(2_000))).await.unwrap();
    hand.advance(ms(1_500));
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("fake"));
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Near);
    hand.advance(ms(500));
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn reads_never_write_to_a_tier_that_has_the_value() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let writer = without_near().clock(&hand).tier(tier.clone()).build().unwrap();
    writer.put("k", 1).await.unwrap();
    let before = tier.calls();
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    cache.get_or_load("k", || Loader::default().give(2, ms(1))).await.unwrap();
    cache.settled().await;
    let after = tier.calls();
    assert_eq!(after.of(Call::Lease), before.of(Call::Lease) + 1);
    for call in [Call::Fill, Call::Put, Call::Invalidate, Call::Remove] {
        assert_eq!(after.of(call), before.of(call), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_finds_no_value_leaves_none_near() {
    let cache = local();
    cache.put("k", 1).await.unwrap();
    let gone = cache.refresh("k", |_| async { Ok::<Option<u64>, terrace_core::BoxError>(None) });
    assert!(gone.await.unwrap().is_none());
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_read_during_a_refresh_gets_the_copy_that_is_still_fresh() {
    let hand = Clock::manual();
    let cache = without_near().clock(&hand).tier(fake("redis", &hand)).build().unwrap();
    cache.put("k", 1).await.unwrap();
    let refresh = cache.refresh("k", |_| Loader::default().give(2, ms(50)));
    let read = async {
        tokio::time::sleep(ms(10)).await;
        cache.get("k").await.unwrap().map(|value| *value)
    };
    let (refreshed, read) = tokio::join!(refresh, read);
    assert_eq!((refreshed.unwrap().map(|value| *value), read), (Some(2), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_copy_on_its_way_to_a_nearer_tier_does_not_outlive_an_expire() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = without_near().clock(&hand).tier(redis.clone()).tier(postgres.clone());
    let cache = stack.build().unwrap();
    cache.put("k", 1).await.unwrap();
    assert!(redis.evict("tests", b"k"));
    redis.set_latency(ms(20));
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    // The copy on its way to the nearer tier is slower than the expire.
    tokio::time::sleep(ms(1)).await;
    redis.set_latency(ms(0));
    assert!(cache.expire("k", ms(1_000)).await.unwrap());
    cache.settled().await;
    hand.advance(ms(1_000));
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_key_given_twice_is_one_operation_and_its_last_value_stands() {
    let hand = Clock::manual();
    let tier = terrace_conformance::Recording::new(fake("redis", &hand));
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let puts = cache.put_many([("k", 1), ("other", 5), ("k", 2)].map(|(key, value)| (key.to_owned(), value)));
    let versions: Vec<_> = puts.await.into_iter().map(Result::unwrap).collect();
    assert_eq!((versions.len(), versions[0]), (3, versions[2]));
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
    let keys = ["k", "k"].map(String::from);
    let removed: Vec<_> = cache.remove_many(&keys).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(removed, [true, false]);
    let ops = tier.ops();
    let count = |kind| ops.iter().filter(|op| Call::of(op) == kind).count();
    assert_eq!((count(Call::Put), count(Call::Remove)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_value_is_not_kept_leaves_no_old_copy_in_a_tier() {
    let hand = Clock::manual();
    let tier = fake("fake", &hand);
    let cache = builder().clock(&hand).tier(tier.clone()).build().unwrap();
    let plain = without_near().clock(&hand).tier(tier).build().unwrap();
    for item in [terrace_core::Item::absent(), terrace_core::Item::new(2).ttl(ms(0))] {
        cache.put("k", 1).await.unwrap();
        cache.refresh("k", async |_| Ok::<_, terrace_core::BoxError>(item)).await.unwrap();
        cache.settled().await;
        assert_gone(&cache).await;
        assert_gone(&plain).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_leaves_no_old_copy_readable_in_a_tier_that_it_could_not_reach() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let load = |_| Loader::default().give(2, ms(1));
    // First the nearer tier is down, then the authority.
    for down in [&redis, &postgres] {
        let cache = without_near().clock(&hand).tier(redis.clone()).tier(postgres.clone()).build().unwrap();
        cache.put("k", 1).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
        cache.settled().await;
        down.set_down(true);
        assert_eq!(cache.refresh("k", load).await.unwrap().unwrap(), 2);
        cache.settled().await;
        down.set_down(false);
        assert_ne!(cache.get("k").await.unwrap().map(|value| *value), Some(1));
        tokio::time::sleep(ms(5_000)).await;
        assert_ne!(cache.get("k").await.unwrap().map(|value| *value), Some(1));
    }
}

/// Admits values to every tier except the one with this name.
struct NotIn(&'static str);

impl terrace_core::policy::Admission for NotIn {
    fn admits(&self, context: &terrace_core::policy::AdmitContext<'_>) -> bool {
        context.tier != self.0
    }
}

#[tokio::test(start_paused = true)]
async fn near_keeps_no_load_that_an_invalidation_overtook_in_an_authority_that_keeps_no_copy() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let stack = || builder().clock(&hand).admit(NotIn("redis"));
    let here = stack().tier(redis.clone()).build().unwrap();
    let there = stack().tier(redis.another_handle()).build().unwrap();
    disturbed(&here, &Loader::default(), async |_| {
        there.invalidate("k").await.unwrap();
    })
    .await;
    assert!(here.get("k").await.unwrap().is_none());
    here.get_or_load("k", || Loader::default().give(2, ms(1))).await.unwrap();
    here.settled().await;
    assert_eq!(here.get("k").await.unwrap().unwrap().served().from, Source::Near);
}
