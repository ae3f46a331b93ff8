//! The authority forgets a key while its clock is behind: its next version is below that of an older copy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Loader, Stack, fake, ms, without_near};
use terrace_conformance::Fake;
use terrace_core::policy::{Admission, AdmitContext};
use terrace_tier::{Clock, ManualClock};

struct NotInSqlite;

impl Admission for NotInSqlite {
    fn admits(&self, context: &AdmitContext<'_>) -> bool {
        context.tier != "sqlite"
    }
}

/// A cache without a store, whose nearer tier has a copy of 1 that is newer, by its version, than all that the
/// farther tier can issue now.
async fn with_a_copy_of_a_higher_version(hand: &ManualClock, nearer: &Fake, farther: &Fake) -> Stack {
    let cache = without_near()
        .tier(nearer.another_handle())
        .tier(farther.another_handle())
        .clock(hand)
        .build()
        .unwrap();
    cache.get_or_load("k", || Loader::default().give(1, ms(1))).await.unwrap();
    cache.settled().await;
    farther.set_clock_behind(ms(3_000));
    farther.lose_everything();
    cache
}

#[tokio::test(start_paused = true)]
async fn a_put_replaces_a_copy_of_a_higher_version() {
    let hand = Clock::manual();
    let (nearer, farther) = (fake("sqlite", &hand), fake("redis", &hand));
    let cache = with_a_copy_of_a_higher_version(&hand, &nearer, &farther).await;
    cache.put("k", 2).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_the_nearer_tier_does_not_admit_drops_a_copy_of_a_higher_version() {
    let hand = Clock::manual();
    let (nearer, farther) = (fake("sqlite", &hand), fake("redis", &hand));
    with_a_copy_of_a_higher_version(&hand, &nearer, &farther).await;
    let cache = without_near().clock(&hand).admit(NotInSqlite).tier(nearer).tier(farther).build().unwrap();
    cache.put("k", 2).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_drops_a_copy_of_a_higher_version() {
    let hand = Clock::manual();
    let (nearer, farther) = (fake("sqlite", &hand), fake("redis", &hand));
    let cache = with_a_copy_of_a_higher_version(&hand, &nearer, &farther).await;
    let loader = Loader::default();
    cache.refresh("k", |_| loader.give(2, ms(1))).await.unwrap();
    cache.settled().await;
    assert_eq!(*cache.get_or_load("k", || loader.give(2, ms(1))).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_the_nearer_tier_does_not_admit_drops_a_copy_of_a_higher_version() {
    let hand = Clock::manual();
    let (nearer, farther) = (fake("sqlite", &hand), fake("redis", &hand));
    with_a_copy_of_a_higher_version(&hand, &nearer, &farther).await;
    let cache = without_near().clock(&hand).admit(NotInSqlite).tier(nearer).tier(farther).build().unwrap();
    cache.refresh("k", |_| Loader::default().give(2, ms(1))).await.unwrap();
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);
}
