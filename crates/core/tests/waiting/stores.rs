//! Waiting with a store behind the cache tier, and with a store alone.

use terrace_tier::Clock;
use tokio::time::Instant;

use crate::{
    LEASE, share_one_load,
    support::{Loader, fake, ms, without_near},
};

/// With a store, a plain read takes a lease in the cache tier, so that it can copy the record there.
#[tokio::test(start_paused = true)]
async fn a_lease_of_a_plain_read_is_waited_for_by_nobody() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = || {
        let stack = without_near().clock(&hand).tier(redis.another_handle()).stampede(LEASE);
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
        let stack = without_near().clock(&hand).tier(redis.another_handle()).stampede(LEASE);
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
        let stack = without_near().clock(&hand).tier(redis.another_handle()).stampede(LEASE);
        stack.store(postgres.another_handle()).build().unwrap()
    };
    share_one_load(&[stack(), stack(), stack()]).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_store_alone_every_process_loads_and_all_get_the_first_record() {
    let hand = Clock::manual();
    let postgres = fake("postgres", &hand);
    let stack =
        || without_near().clock(&hand).store(postgres.another_handle()).stampede(LEASE).build().unwrap();
    let (first, second, loader) = (stack(), stack(), Loader::default());
    let answers = tokio::join!(
        first.get_or_load("k", || loader.give(1, ms(100))),
        second.get_or_load("k", || loader.give(2, ms(200)))
    );
    assert_eq!((*answers.0.unwrap(), *answers.1.unwrap(), loader.runs()), (1, 1, 2));
}
