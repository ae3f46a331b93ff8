//! Waits that end without the fill: by a holder that dies or fails, a change, a lost tier, or a deadline.

use std::time::Duration;

use futures_util::future::join_all;
use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::MissingKeys;
use terrace_tier::{Clock, ErrorKind};
use tokio::time::Instant;

use crate::{
    LEASE, call, processes,
    support::{Loader, Stack, builder, fake, ms, without_near},
};

#[tokio::test(start_paused = true)]
async fn of_a_dead_holders_waiters_one_takes_over_and_the_zombie_fills_nothing() {
    for dies_at in [ms(10), ms(700), ms(1900)] {
        let hand = Clock::manual();
        let (group, zombie, loader) = (processes(&hand, 4), Loader::default(), Loader::default());
        let (dying, handle) = &group[0];
        let lead = dying.get_or_load("k", || zombie.give(1, ms(6_000)));
        let others = async {
            tokio::time::sleep(ms(5)).await;
            let began = Instant::now();
            let answers = group[1..].iter().map(|(cache, _)| call(cache, &loader, 2, ms(200)));
            assert!(join_all(answers).await.iter().flatten().all(|answer| *answer == 2));
            assert!(began.elapsed() < dies_at + ms(2_000 + 200 + 50), "{:?}", began.elapsed());
            tokio::time::sleep(ms(6_000)).await;
            handle.set_stopped(false);
        };
        let death = async {
            tokio::time::sleep(dies_at).await;
            handle.set_stopped(true);
        };
        let (zombies, (), ()) = tokio::join!(lead, others, death);
        assert_eq!(*zombies.unwrap(), 1, "the zombie's caller must get the value that it loaded");
        assert_eq!((zombie.runs(), loader.runs()), (1, 1));
        dying.settled().await;
        assert!(!dying.contains("k").await.unwrap() || *dying.get("k").await.unwrap().unwrap() == 2);
        assert_eq!(*group[3].0.get("k").await.unwrap().unwrap(), 2, "the tier must refuse the zombie's fill");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_failed_loads_waiters_one_takes_over_at_once() {
    let hand = Clock::manual();
    let (group, failing, loader) = (processes(&hand, 3), Loader::default(), Loader::default());
    let lead = group[0].0.get_or_load("k", || failing.fail(ms(300)));
    let others = async {
        tokio::time::sleep(ms(5)).await;
        join_all(group[1..].iter().map(|(cache, _)| call(cache, &loader, 2, ms(100)))).await
    };
    let began = Instant::now();
    let (led, others) = tokio::join!(lead, others);
    assert_eq!(led.unwrap_err().kind(), ErrorKind::Load);
    assert!(others.iter().flatten().all(|answer| *answer == 2));
    assert_eq!(loader.runs(), 1);
    assert!(began.elapsed() < ms(300 + 100 + 250), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_panicked_loads_place_is_taken_by_one() {
    let hand = Clock::manual();
    let (group, panicking, loader) = (processes(&hand, 2), Loader::default(), Loader::default());
    let lead = group[0].0.get_or_load("k", || panicking.panic(ms(100)));
    let second = async {
        tokio::time::sleep(ms(5)).await;
        group[0].0.get_or_load("k", || loader.give(2, ms(100))).await
    };
    let other = async {
        tokio::time::sleep(ms(5)).await;
        group[1].0.get_or_load("k", || loader.give(2, ms(100))).await
    };
    let (led, second, other) = tokio::join!(lead, second, other);
    assert_eq!(led.unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!((*second.unwrap(), *other.unwrap()), (2, 2));
    assert_eq!(
        loader.runs(),
        1,
        "either the second caller of the process or the other process may load, not both"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panicked_loads_place_is_not_taken_by_a_batch_and_by_another_process() {
    let hand = Clock::manual();
    let (group, panicking, loader) = (processes(&hand, 2), Loader::default(), Loader::default());
    let lead = group[0].0.get_or_load("k", || panicking.panic(ms(100)));
    let batch = async {
        tokio::time::sleep(ms(5)).await;
        let load = loader.give(2, ms(100));
        let load = |missing: MissingKeys<String>| async { load.await.map(|value| missing.zip([value])) };
        group[0].0.get_or_load_many(&["k".to_owned()], load).await.into_values()
    };
    let other = async {
        tokio::time::sleep(ms(5)).await;
        group[1].0.get_or_load("k", || loader.give(2, ms(100))).await
    };
    let (led, batch, other) = tokio::join!(lead, batch, other);
    assert_eq!(led.unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!((batch.unwrap()[0].as_deref(), *other.unwrap()), (Some(&2), 2));
    assert_eq!(loader.runs(), 1, "either the batch or the other process may load, not both");
}

#[tokio::test(start_paused = true)]
async fn processes_whose_loads_give_nothing_to_keep_do_not_load_in_a_row() {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 8), Loader::default(), Instant::now());
    let absent = |cache: &Stack| {
        let (cache, load) = (cache.clone(), loader.give(0, ms(100)));
        async move { cache.get_or_load_with("k", |_| async { load.await.map(|_| None) }).await.unwrap() }
    };
    let answers = join_all(group.iter().map(|(cache, _)| absent(cache))).await;
    assert!(answers.iter().all(Option::is_none));
    assert!(began.elapsed() < ms(100 * 5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_failed_gives_the_lease_back() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let broken = Faulty::new(redis.another_handle());
    broken.arm(Fault::fail(ErrorKind::TooLarge).on(Call::Fill).times(2));
    let first = without_near().clock(&hand).tier(broken).stampede(LEASE).build().unwrap();
    let second = without_near().clock(&hand).tier(redis.another_handle()).stampede(LEASE).build().unwrap();
    let (loader, began) = (Loader::default(), Instant::now());
    let lead = first.get_or_load("k", || loader.give(1, ms(100)));
    let other = async {
        tokio::time::sleep(ms(5)).await;
        (*second.get_or_load("k", || loader.give(2, ms(100))).await.unwrap(), began.elapsed())
    };
    let (_, (answer, elapsed)) = tokio::join!(lead, other);
    assert_eq!(answer, 2);
    assert!(elapsed < ms(100 + 100 + 100), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_the_load_makes_its_waiters_load_anew() {
    let hand = Clock::manual();
    let (group, old, new) = (processes(&hand, 3), Loader::default(), Loader::default());
    let lead = group[0].0.get_or_load("k", || old.give(1, ms(2_000)));
    let others = async {
        tokio::time::sleep(ms(5)).await;
        join_all(group[1..].iter().map(|(cache, _)| call(cache, &new, 2, ms(200)))).await
    };
    let change = async {
        tokio::time::sleep(ms(500)).await;
        group[0].0.invalidate("k").await.unwrap();
    };
    let (led, others, ()) = tokio::join!(lead, others, change);
    assert_eq!(*led.unwrap(), 1);
    assert!(others.iter().flatten().all(|answer| *answer == 2));
    assert_eq!(new.runs(), 1, "one of the two must load, and the other must wait for it");
    assert_eq!(*group[0].0.get("k").await.unwrap().unwrap(), 2);
}

/// The time until a caller that waited for the load of another process had loaded for itself. `trouble`
/// happens to the tier 300 ms after the start.
async fn waited_until<F: Future<Output = ()>>(trouble: impl FnOnce(Fake) -> F) -> Duration {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 2), Loader::default(), Instant::now());
    let lead = group[0].0.get_or_load("k", || loader.give(1, ms(10_000)));
    let other = async {
        tokio::time::sleep(ms(5)).await;
        let value = group[1].0.get_or_load("k", || loader.give(2, ms(100))).await.unwrap();
        assert_eq!(*value, 2);
        began.elapsed()
    };
    let trouble = async {
        tokio::time::sleep(ms(300)).await;
        trouble(group[0].1.clone()).await;
    };
    let (_, elapsed, ()) = tokio::join!(lead, other, trouble);
    elapsed
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_tier_that_is_lost_loads_for_itself() {
    let elapsed = waited_until(|redis| async move { redis.set_down(true) }).await;
    assert!(elapsed < ms(600), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_server_that_hangs_loads_for_itself() {
    let hangs = |redis: Fake| async move {
        redis.set_hanging(true);
        tokio::time::sleep(ms(2_000)).await;
        redis.set_hanging(false);
    };
    let elapsed = waited_until(hangs).await;
    assert!(elapsed < ms(300 + 100 + 1_000 + 100 + 50), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_loads_deadline() {
    let hand = Clock::manual();
    let (redis, loader) = (fake("redis", &hand), Loader::default());
    let slow = builder().clock(&hand).tier(redis.another_handle()).stampede(LEASE);
    let slow = slow.load_deadline(ms(60_000)).build().unwrap();
    let quick = builder().clock(&hand).tier(redis.another_handle()).stampede(LEASE);
    let quick = quick.load_deadline(ms(3_000)).build().unwrap();
    let lead = slow.get_or_load("k", || loader.give(1, ms(50_000)));
    let other = async {
        tokio::time::sleep(ms(5)).await;
        let began = Instant::now();
        (*quick.get_or_load("k", || loader.give(2, ms(100))).await.unwrap(), began.elapsed())
    };
    let (_, (answer, elapsed)) = tokio::join!(lead, other);
    assert_eq!(answer, 2);
    assert!(elapsed >= ms(3_000) && elapsed < ms(3_200), "{elapsed:?}");
}
