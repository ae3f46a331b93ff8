//! One load for all processes, and the calls that wait for it.

use futures_util::future::join_all;
use terrace_core::{BoxError, Level, Source, policy::Coalesce};
use terrace_tier::Clock;
use tokio::time::Instant;

use crate::{
    LEASE, call, processes, share_one_load,
    support::{FixedExpiry, FixedStampede, Loader, Stack, builder, fake, ms, without_near},
};

#[tokio::test(start_paused = true)]
async fn processes_share_one_load() {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 4), Loader::default(), Instant::now());
    let answers = join_all(group.iter().map(|(cache, _)| call(cache, &loader, 1, ms(300)))).await;
    assert!(answers.iter().flatten().all(|answer| *answer == 1));
    assert_eq!(loader.runs(), 1);
    assert!(began.elapsed() < ms(400), "{:?}", began.elapsed());
    let waits: u64 = group.iter().map(|(cache, _)| cache.stats().waits).sum();
    assert_eq!(waits, 3, "each process must wait once, however many callers it has");
    for (cache, _) in &group {
        let hit = cache.get("k").await.unwrap().unwrap();
        assert_eq!(hit.served().from, Source::Near, "near must keep the value for which the process waited");
        assert_eq!(cache.stats().flights, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_learns_which_tier_served_it() {
    let hand = Clock::manual();
    let (group, loader) = (processes(&hand, 2), Loader::default());
    let [(first, _), (second, _)] = &group[..] else { unreachable!() };
    let lead = first.get_or_load("k", || loader.give(1, ms(300)));
    let wait = async {
        tokio::time::sleep(ms(50)).await;
        second.get_or_load("k", || loader.give(2, ms(300))).await
    };
    let (led, waited) = tokio::join!(lead, wait);
    assert_eq!(led.unwrap().served().from, Source::Loader);
    let waited = waited.unwrap();
    assert_eq!((*waited, waited.served().from), (1, Source::Tier("redis")));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_lasts_is_not_taken_over() {
    let hand = Clock::manual();
    let (group, loader) = (processes(&hand, 3), Loader::default());
    join_all(group.iter().map(|(cache, _)| call(cache, &loader, 1, ms(20_000)))).await;
    assert_eq!(loader.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_tiers_are_waited_at_the_nearer_one() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = || {
        let stack = builder().clock(&hand).tier(redis.another_handle()).tier(postgres.another_handle());
        stack.stampede(LEASE).build().unwrap()
    };
    share_one_load(&[stack(), stack(), stack()]).await;
}

#[tokio::test(start_paused = true)]
async fn at_level_ttl_processes_wait_too() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let stack = || {
        let stack = without_near().clock(&hand).tier(redis.another_handle()).level(Level::Ttl);
        stack.stampede(LEASE).build().unwrap()
    };
    share_one_load(&[stack(), stack(), stack()]).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_if_others_load_all_of_it_and_loads_it_whole_else() {
    let hand = Clock::manual();
    let (group, loader) = (processes(&hand, 2), Loader::default());
    let batch = |cache: &Stack, keys: &'static [&'static str], value: u64| {
        let (cache, load) = (cache.clone(), loader.give(value, ms(300)));
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        async move {
            let loaded = cache.get_or_load_many(&keys, |missing| async move {
                let value = load.await?;
                let values = vec![value; missing.keys().len()];
                Ok::<_, BoxError>(missing.zip(values))
            });
            let values = loaded.await.into_values().unwrap();
            values.into_iter().map(|value| *value.unwrap()).collect::<Vec<_>>()
        }
    };
    let late = |keys, value| {
        let loads = batch(&group[1].0, keys, value);
        async {
            tokio::time::sleep(ms(5)).await;
            loads.await
        }
    };
    let (first, second) = tokio::join!(batch(&group[0].0, &["a", "b"], 1), late(&["b", "a"], 2));
    assert_eq!((first, second, loader.runs()), (vec![1, 1], vec![1, 1], 1));
    let (first, second) = tokio::join!(batch(&group[0].0, &["c", "d"], 1), late(&["d", "e"], 2));
    assert_eq!((first, second, loader.runs()), (vec![1, 1], vec![2, 2], 3));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_waits_for_nobody() {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 2), Loader::default(), Instant::now());
    let lead = group[0].0.get_or_load("k", || loader.give(1, ms(5_000)));
    let refresh = async {
        tokio::time::sleep(ms(5)).await;
        let value = group[1].0.refresh("k", |_| loader.give(2, ms(100))).await.unwrap().unwrap();
        (*value, began.elapsed())
    };
    let (_, (answer, elapsed)) = tokio::join!(lead, refresh);
    assert_eq!(answer, 2);
    assert!(elapsed < ms(200), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_may_have_the_stale_value() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let stack = || {
        let stack = without_near()
            .clock(&hand)
            .tier(redis.another_handle())
            .stampede(FixedStampede(Coalesce::LeaseOrStale));
        stack.expire(FixedExpiry::fresh(ms(10_000)).stale(ms(60_000))).build().unwrap()
    };
    let (first, second, loader) = (stack(), stack(), Loader::default());
    first.get_or_load("k", || loader.give(1, ms(0))).await.unwrap();
    first.settled().await;
    hand.advance(ms(20_000));
    let lead = first.get_or_load("k", || loader.give(2, ms(1_000)));
    let other = async {
        tokio::time::sleep(ms(5)).await;
        let began = Instant::now();
        (*second.get_or_load("k", || loader.give(3, ms(0))).await.unwrap(), began.elapsed())
    };
    let (led, (stale, elapsed)) = tokio::join!(lead, other);
    assert_eq!((*led.unwrap(), stale), (2, 1));
    assert!(elapsed < ms(10), "{elapsed:?}");
    assert_eq!((second.stats().stale_served, loader.runs()), (1, 2));
    first.settled().await;
    assert_eq!(*second.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_policy_every_process_loads_and_delays_nobody() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let local = without_near().clock(&hand).tier(redis.another_handle()).build().unwrap();
    let leases = without_near().clock(&hand).tier(redis.another_handle()).stampede(LEASE).build().unwrap();
    let (loader, began) = (Loader::default(), Instant::now());
    let lead = local.get_or_load("k", || loader.give(1, ms(100)));
    let other = async {
        tokio::time::sleep(ms(5)).await;
        leases.get_or_load("k", || loader.give(2, ms(100))).await
    };
    let _ = tokio::join!(lead, other);
    assert!(began.elapsed() < ms(250), "{:?}", began.elapsed());
    assert_eq!(loader.runs(), 2);
}
