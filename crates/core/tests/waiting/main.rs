//! Loads across processes: one process loads, the others wait for its fill and take over if it dies.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod ended;
mod joined;
mod refresh;
mod shared;
mod stores;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{FixedStampede, Loader, Stack, builder, fake, ms};
use terrace_conformance::Fake;
use terrace_core::policy::Coalesce;
use terrace_tier::ManualClock;

const LEASE: FixedStampede = FixedStampede(Coalesce::Lease);

const CALLERS: usize = 250;

/// Caches of `processes` processes over one tier, each with its handle on that tier.
fn processes(hand: &ManualClock, processes: usize) -> Vec<(Stack, Fake)> {
    let redis = fake("redis", hand);
    let one = |_| {
        let handle = redis.another_handle();
        (builder().clock(hand).tier(handle.clone()).stampede(LEASE).build().unwrap(), handle)
    };
    (0..processes).map(one).collect()
}

/// Many callers of one process load the same key; returns what they get.
async fn call(cache: &Stack, loader: &Loader, value: u64, pause: Duration) -> Vec<u64> {
    let one = || async { *cache.get_or_load("k", || loader.give(value, pause)).await.unwrap() };
    join_all((0..CALLERS).map(|_| one())).await
}

/// Checks that callers that miss in all these processes at once share one load.
async fn share_one_load(group: &[Stack]) {
    let loader = Loader::default();
    let answers = join_all(group.iter().map(|cache| call(cache, &loader, 1, ms(300)))).await;
    assert!(answers.iter().flatten().all(|answer| *answer == 1));
    assert_eq!(loader.runs(), 1);
}
