//! `update` loses no change, and ends.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use futures_util::future::join_all;
use support::{Idle, Stack, builder, fake, local, ms, pass, without_near};
use terrace_conformance::{Call, Fake};
use terrace_core::{ErrorKind, Level};
use terrace_tier::Clock;

fn add(count: Option<&u64>) -> u64 {
    count.map_or(1, |count| count + 1)
}

async fn count(cache: &Stack, times: usize) {
    for _ in 0..times {
        while let Err(error) = cache.update("k", add).await {
            assert_eq!(error.kind(), ErrorKind::Busy);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn callers_of_several_processes_lose_no_increment() {
    let hand = Clock::manual();
    for is_record in [true, false] {
        let shared = fake("shared", &hand);
        let process = |_| {
            let handle: Fake = shared.another_handle();
            let stack = builder().clock(&hand);
            if is_record { stack.store(handle) } else { stack.tier(handle) }.build().unwrap()
        };
        let processes: Vec<Stack> = (0..4).map(process).collect();
        shared.set_latency(ms(1));
        let callers = (0..16).map(|caller| count(&processes[caller % 4], 25));
        join_all(callers).await;
        shared.set_latency(ms(0));
        for cache in &processes {
            cache.close().await;
        }
        let reader = without_near().clock(&hand);
        let reader = if is_record { reader.store(shared.another_handle()) } else { reader.tier(shared) };
        assert_eq!(*reader.build().unwrap().get("k").await.unwrap().unwrap(), 400);
    }
}

#[tokio::test(start_paused = true)]
async fn near_alone_counts_as_well_and_where_a_read_renews_the_life() {
    let hand = Clock::manual();
    for cache in [local(), builder().clock(&hand).expire(Idle(ms(10_000))).build().unwrap()] {
        join_all((0..8).map(|_| count(&cache, 50))).await;
        pass(&hand, ms(2_000)).await;
        count(&cache, 1).await;
        assert_eq!(*cache.get("k").await.unwrap().unwrap(), 401);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_near_holds_is_changed_in_one_trip() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(redis.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    let before = redis.calls().trips();
    cache.update("k", add).await.unwrap();
    assert_eq!(redis.calls().trips() - before, 1);
    assert_eq!((redis.calls().of(Call::Get), *cache.get("k").await.unwrap().unwrap()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_update_that_always_loses_is_busy_after_sixteen_tries() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(redis.another_handle()).build().unwrap();
    let other = without_near().clock(&hand).tier(redis).build().unwrap();
    other.put("k", 0).await.unwrap();
    let mut tries = 0;
    let (writer, runtime) = (other.clone(), tokio::runtime::Handle::current());
    let error = cache
        .update("k", |count| {
            tries += 1;
            // The fake tier answers at the first poll.
            let put = async { writer.put("k", 100).await.unwrap() };
            let _ = runtime.enter();
            futures_util::FutureExt::now_or_never(put).unwrap();
            add(count)
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), tries), (ErrorKind::Busy, 16));
    assert_eq!(*other.get("k").await.unwrap().unwrap(), 100, "nothing was written");
}

#[tokio::test]
async fn a_level_without_an_order_of_writes_updates_nothing() {
    let hand = Clock::manual();
    let cache = without_near().level(Level::Ttl).tier(fake("redis", &hand)).build().unwrap();
    assert_eq!(cache.update("k", add).await.unwrap_err().kind(), ErrorKind::Unsupported);
}
