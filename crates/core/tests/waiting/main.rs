//! Loads among processes: one runs, the others wait for its fill, and take its place if it dies.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod ended;
mod joined;
mod refresh;
mod shared;
mod stores;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{Loader, Share, Stack, builder, fake, ms};
use terrace_conformance::Fake;
use terrace_core::policy::Coalesce;
use terrace_tier::ManualClock;

const LEASE: Share = Share(Coalesce::Lease);

const CALLERS: usize = 250;

/// Caches of `processes` processes over one tier, and the handles by which they reach it.
fn processes(hand: &ManualClock, processes: usize) -> Vec<(Stack, Fake)> {
    let redis = fake("redis", hand);
    let one = |_| {
        let handle = redis.another_handle();
        (builder().clock(hand).tier(handle.clone()).stampede(LEASE).build().unwrap(), handle)
    };
    (0..processes).map(one).collect()
}

/// What all callers of a process got.
async fn call(cache: &Stack, loader: &Loader, value: u64, pause: Duration) -> Vec<u64> {
    let one = || async { *cache.get_or_load("k", || loader.give(value, pause)).await.unwrap() };
    join_all((0..CALLERS).map(|_| one())).await
}

/// Callers in all these processes miss at once.
async fn share_one_load(group: &[Stack]) {
    let loader = Loader::default();
    let answers = join_all(group.iter().map(|cache| call(cache, &loader, 1, ms(300)))).await;
    assert!(answers.iter().flatten().all(|answer| *answer == 1));
    assert_eq!(loader.runs(), 1);
}
