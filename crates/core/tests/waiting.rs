//! Loads among processes: one runs, the others wait for its fill, and take its place if it dies.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{Loader, Stack, Truth, builder, fake, ms, without_near};
use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::{
    Clock, Coalesce, ErrorKind, Expiry, Level, Lifetime, ManualClock, Missing, Source, Stampede, Writing,
};
use tokio::time::Instant;

const CALLERS: usize = 250;

struct Lease;

impl Stampede for Lease {
    fn coalesce(&self) -> Coalesce {
        Coalesce::Lease
    }
}

struct LeaseOrStale;

impl Stampede for LeaseOrStale {
    fn coalesce(&self) -> Coalesce {
        Coalesce::LeaseOrStale
    }
}

/// Fresh for ten seconds, and stale for a minute.
struct TenSeconds;

impl Expiry for TenSeconds {
    fn lifetime(&self, _writing: &Writing) -> Lifetime {
        Lifetime { fresh: ms(10_000), stale: ms(60_000) }
    }
}

/// Caches of `processes` processes over one tier, and the handles by which they reach it.
fn processes(hand: &ManualClock, processes: usize) -> Vec<(Stack, Fake)> {
    let redis = fake("redis", hand);
    let one = |_| {
        let handle = redis.another_handle();
        (builder().clock(hand).tier(handle.clone()).stampede(Lease).build().unwrap(), handle)
    };
    (0..processes).map(one).collect()
}

/// What all callers of a process got.
async fn call(cache: &Stack, loader: &Loader, value: u64, pause: Duration) -> Vec<u64> {
    let one = || async { *cache.get_or_load("k", || loader.give(value, pause)).await.unwrap() };
    join_all((0..CALLERS).map(|_| one())).await
}

#[tokio::test(start_paused = true)]
async fn processes_share_one_load() {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 4), Loader::default(), Instant::now());
    let answers = join_all(group.iter().map(|(cache, _)| call(cache, &loader, 1, ms(300)))).await;
    assert!(answers.iter().flatten().all(|answer| *answer == 1));
    assert_eq!(loader.runs(), 1);
    assert!(began.elapsed() < ms(400), "{:?}", began.elapsed());
    let waits: u64 = group.iter().map(|(cache, _)| cache.stats().waits).sum();
    assert_eq!(waits, 3, "one wait a process, however many callers");
    for (cache, _) in &group {
        let hit = cache.get("k").await.unwrap().unwrap();
        assert_eq!(hit.served().from, Source::Near, "near keeps what was waited for");
        assert_eq!(cache.stats().flights, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waited_is_told_by_which_tier_it_was_served() {
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
        assert_eq!(*zombies.unwrap(), 1, "the zombie's caller gets what was loaded");
        assert_eq!((zombie.runs(), loader.runs()), (1, 1));
        dying.settled().await;
        assert!(!dying.contains("k").await.unwrap() || *dying.get("k").await.unwrap().unwrap() == 2);
        assert_eq!(*group[3].0.get("k").await.unwrap().unwrap(), 2, "the zombie's fill was refused");
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
    assert_eq!(loader.runs(), 1, "the second caller of the process or the other process, not both");
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
    assert_eq!(new.runs(), 1, "one of the two loads, the other waits for it");
    assert_eq!(*group[0].0.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_tier_that_is_lost_loads_for_itself() {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 2), Loader::default(), Instant::now());
    let lead = group[0].0.get_or_load("k", || loader.give(1, ms(10_000)));
    let other = async {
        tokio::time::sleep(ms(5)).await;
        let answer = group[1].0.get_or_load("k", || loader.give(2, ms(100))).await.unwrap();
        (*answer, began.elapsed())
    };
    let loss = async {
        tokio::time::sleep(ms(300)).await;
        group[0].1.set_down(true);
    };
    let (_, (answer, elapsed), ()) = tokio::join!(lead, other, loss);
    assert_eq!(answer, 2);
    assert!(elapsed < ms(600), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_server_that_hangs_loads_for_itself() {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 2), Loader::default(), Instant::now());
    let lead = group[0].0.get_or_load("k", || loader.give(1, ms(10_000)));
    let other = async {
        tokio::time::sleep(ms(5)).await;
        let answer = group[1].0.get_or_load("k", || loader.give(2, ms(100))).await.unwrap();
        (*answer, began.elapsed())
    };
    let loss = async {
        tokio::time::sleep(ms(300)).await;
        group[0].1.set_hanging(true);
        tokio::time::sleep(ms(2_000)).await;
        group[0].1.set_hanging(false);
    };
    let (_, (answer, elapsed), ()) = tokio::join!(lead, other, loss);
    assert_eq!(answer, 2);
    assert!(elapsed < ms(300 + 100 + 1_000 + 100 + 50), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_loads_deadline() {
    let hand = Clock::manual();
    let (redis, loader) = (fake("redis", &hand), Loader::default());
    let slow = builder().clock(&hand).tier(redis.another_handle()).stampede(Lease);
    let slow = slow.load_deadline(ms(60_000)).build().unwrap();
    let quick = builder().clock(&hand).tier(redis.another_handle()).stampede(Lease);
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

#[tokio::test(start_paused = true)]
async fn a_refresh_waits_for_nobody() {
    let hand = Clock::manual();
    let (group, loader, began) = (processes(&hand, 2), Loader::default(), Instant::now());
    let lead = group[0].0.get_or_load("k", || loader.give(1, ms(5_000)));
    let refresh = async {
        tokio::time::sleep(ms(5)).await;
        let anew = group[1].0.refresh("k", |_| loader.give(2, ms(100))).await.unwrap().unwrap();
        (*anew, began.elapsed())
    };
    let (_, (answer, elapsed)) = tokio::join!(lead, refresh);
    assert_eq!(answer, 2);
    assert!(elapsed < ms(200), "{elapsed:?}");
}

/// With a store, a plain read takes a lease in the tier before it, to copy what the store has.
#[tokio::test(start_paused = true)]
async fn a_lease_of_a_plain_read_is_waited_for_by_nobody() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = || {
        let stack = without_near().clock(&hand).tier(redis.another_handle()).stampede(Lease);
        stack.store(postgres.another_handle()).build().unwrap()
    };
    let (reader, loads, loader) = (stack(), stack(), Loader::default());
    assert!(reader.get("k").await.unwrap().is_none());
    let began = Instant::now();
    assert_eq!(*loads.get_or_load("k", || loader.give(2, ms(100))).await.unwrap(), 2);
    assert!(began.elapsed() < ms(150), "{:?}", began.elapsed());
    assert_eq!(loads.stats().waits, 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_joined_a_plain_read_is_waited_for() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    redis.set_latency(ms(5));
    let stack = || {
        let stack = without_near().clock(&hand).tier(redis.another_handle()).stampede(Lease);
        stack.store(postgres.another_handle()).build().unwrap()
    };
    let (first, second, loader) = (stack(), stack(), Loader::default());
    let lead = async { tokio::join!(first.get("k"), first.get_or_load("k", || loader.give(1, ms(300)))) };
    let other = async {
        tokio::time::sleep(ms(50)).await;
        second.get_or_load("k", || loader.give(2, ms(300))).await
    };
    let ((read, led), waited) = tokio::join!(lead, other);
    assert!(read.unwrap().is_none());
    assert_eq!((*led.unwrap(), *waited.unwrap(), loader.runs()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn with_a_store_the_lease_of_the_tier_before_it_serves() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = || {
        let stack = without_near().clock(&hand).tier(redis.another_handle()).stampede(Lease);
        stack.store(postgres.another_handle()).expire(TenSeconds).build().unwrap()
    };
    let (group, loader) = ([stack(), stack(), stack()], Loader::default());
    let answers = join_all(group.iter().map(|cache| call(cache, &loader, 1, ms(300)))).await;
    assert!(answers.iter().flatten().all(|answer| *answer == 1));
    assert_eq!(loader.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_a_store_alone_every_process_loads_and_all_get_the_first_record() {
    let hand = Clock::manual();
    let postgres = fake("postgres", &hand);
    let stack =
        || without_near().clock(&hand).store(postgres.another_handle()).stampede(Lease).build().unwrap();
    let (first, second, loader) = (stack(), stack(), Loader::default());
    let answers = tokio::join!(
        first.get_or_load("k", || loader.give(1, ms(100))),
        second.get_or_load("k", || loader.give(2, ms(200)))
    );
    assert_eq!((*answers.0.unwrap(), *answers.1.unwrap(), loader.runs()), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn two_tiers_are_waited_at_the_nearer_one() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = || {
        let stack = builder().clock(&hand).tier(redis.another_handle()).tier(postgres.another_handle());
        stack.stampede(Lease).build().unwrap()
    };
    let (group, loader) = ([stack(), stack(), stack()], Loader::default());
    let answers = join_all(group.iter().map(|cache| call(cache, &loader, 1, ms(300)))).await;
    assert!(answers.iter().flatten().all(|answer| *answer == 1));
    assert_eq!(loader.runs(), 1);
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
                Ok::<_, terrace_core::BoxError>(missing.zip(values))
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
async fn who_would_wait_may_have_the_stale_value() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let stack = || {
        let stack = without_near().clock(&hand).tier(redis.another_handle()).stampede(LeaseOrStale);
        stack.expire(TenSeconds).build().unwrap()
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
    let leases = without_near().clock(&hand).tier(redis.another_handle()).stampede(Lease).build().unwrap();
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

#[tokio::test(start_paused = true)]
async fn a_fill_that_failed_gives_the_lease_back() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let broken = Faulty::new(redis.another_handle());
    broken.arm(Fault::fail(ErrorKind::TooLarge).on(Call::Fill).times(2));
    let first = without_near().clock(&hand).tier(broken).stampede(Lease).build().unwrap();
    let second = without_near().clock(&hand).tier(redis.another_handle()).stampede(Lease).build().unwrap();
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
async fn at_level_ttl_processes_wait_too() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let stack = || {
        let stack = without_near().clock(&hand).tier(redis.another_handle()).level(Level::Ttl);
        stack.stampede(Lease).build().unwrap()
    };
    let (group, loader) = ([stack(), stack(), stack()], Loader::default());
    let answers = join_all(group.iter().map(|cache| call(cache, &loader, 1, ms(300)))).await;
    assert!(answers.iter().flatten().all(|answer| *answer == 1));
    assert_eq!(loader.runs(), 1);
}

/// What a call of level `asked` gets that leads the load of a lookup made for less, while another
/// process holds the lease. That one's copy comes into the shared tier after the call, and is older: its
/// record was removed before the call.
async fn joined(asked: Level, many: bool) -> u64 {
    let hand = Clock::manual();
    let (redis, db) = (fake("redis", &hand).with_log(), fake("db", &hand));
    let stack = || {
        let of = builder().clock(&hand).level(asked).stampede(Lease).tier(redis.another_handle());
        of.store(Truth(db.another_handle())).build().unwrap()
    };
    let (here, there, loader) = (stack(), stack(), Loader::default());
    let first = {
        let (there, loader) = (there.clone(), loader.clone());
        tokio::spawn(async move { *there.get_or_load("k", || loader.give(1, ms(20))).await.unwrap() })
    };
    tokio::time::sleep(ms(10)).await;
    // Its fill is under way from now on.
    redis.set_latency(ms(40));
    assert_eq!(first.await.unwrap(), 1);
    tokio::time::sleep(ms(1)).await;
    redis.set_latency(ms(10));
    let writer = without_near().clock(&hand).level(asked).store(Truth(db.another_handle())).build().unwrap();
    writer.remove("k").await.unwrap();
    hand.advance(ms(600));
    let less = {
        let (fenced, loader) = (here.with(Level::Fenced), loader.clone());
        tokio::spawn(async move { *fenced.get_or_load("k", || loader.give(8, ms(0))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    let call = {
        let loader = loader.clone();
        tokio::spawn(async move {
            if !many {
                return *here.get_or_load("k", || loader.give(9, ms(0))).await.unwrap();
            }
            let load = |missing: Missing<String>| {
                let load = loader.give(9, ms(0));
                async move { load.await.map(|value| missing.zip(vec![value])) }
            };
            let values = here.get_or_load_many(&["k".to_owned()], load).await.into_values().unwrap();
            *values[0].clone().unwrap()
        })
    };
    tokio::time::sleep(ms(5)).await;
    less.abort();
    let value = call.await.unwrap();
    assert_eq!(there.stats().waits, 0);
    value
}

#[tokio::test(start_paused = true)]
async fn who_waits_on_a_lookup_made_for_less_takes_no_older_copy() {
    for asked in [Level::Strong, Level::Bounded(ms(500))] {
        for many in [false, true] {
            assert_eq!(joined(asked, many).await, 9, "{asked:?}, many: {many}");
        }
    }
    assert_eq!(joined(Level::Fenced, false).await, 1, "it is what that level waits for");
}
