//! The limit of loads where callers go away, loaders panic or ask the cache, and leases are held.

use futures_util::future::join_all;
use terrace_core::{BoxError, ErrorKind, Level, policy::Coalesce};
use terrace_tier::Clock;
use tokio::time::Instant;

use crate::{
    begin, secs, settle,
    support::{FixedStampede, Loader, builder, fake, ms, without_near},
};

#[tokio::test(start_paused = true)]
async fn a_queued_load_that_its_caller_left_takes_its_turn_and_leaves_nothing_behind() {
    let (cache, loader) = (builder().max_loads(1).build().unwrap(), Loader::default());
    let held = begin(&cache, "a", loader.give(1, ms(50))).await;
    let queued = begin(&cache, "b", loader.give(2, ms(10))).await;
    queued.abort();
    assert!(queued.await.unwrap_err().is_cancelled());
    held.await.unwrap().unwrap();
    cache.settled().await;
    let stats = cache.stats();
    assert_eq!((stats.loads_under_way, stats.loads_waiting, stats.flights), (0, 0, 0));
    assert_eq!(cache.get("b").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_or_hangs_gives_its_permit_back() {
    let cache = builder().max_loads(1).load_deadline(ms(500)).build().unwrap();
    let loader = Loader::default();
    assert_eq!(cache.get_or_load("a", || loader.panic(ms(1))).await.unwrap_err().kind(), ErrorKind::Panicked);
    let hung = cache.get_or_load("b", std::future::pending::<Result<u64, BoxError>>).await;
    assert_eq!(hung.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(cache.stats().loads_under_way, 0);
    assert_eq!(cache.get_or_load("c", || loader.give(3, ms(1))).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_is_queued_when_the_last_handle_is_dropped_ends() {
    let (cache, loader) = (builder().max_loads(1).build().unwrap(), Loader::default());
    let calls =
        [begin(&cache, "a", loader.give(1, ms(50))).await, begin(&cache, "b", loader.give(2, ms(50))).await];
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    drop(cache);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(loader.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_its_own_cache_needs_no_second_permit() {
    let cache = builder().max_loads(1).build().unwrap();
    let loader = Loader::default();
    let outer = {
        let (cache, loader) = (cache.clone(), loader.clone());
        move || async move {
            let inner = cache.get_or_load("part", || loader.give(20, ms(1))).await?;
            Ok::<_, terrace_core::Error>(*inner + 1)
        }
    };
    let began = Instant::now();
    assert_eq!(cache.get_or_load("whole", outer).await.unwrap(), 21);
    assert!(began.elapsed() < ms(50), "{:?}", began.elapsed());
    assert_eq!(cache.stats().loads_under_way, 0);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_another_cache_takes_a_permit_there() {
    let (cache, other) = (builder().build().unwrap(), builder().max_loads(1).build().unwrap());
    let loader = Loader::default();
    let held = begin(&other, "a", loader.give(1, secs(1))).await;
    let asks = {
        let (other, loader) = (other.clone(), loader.clone());
        move || async move { other.get_or_load("b", || loader.give(2, ms(1))).await.map(|value| *value) }
    };
    let error = cache.get_or_load("k", asks).await.unwrap_err();
    assert_eq!((error.kind(), other.stats().loads_refused), (ErrorKind::Load, 1));
    held.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_load_gives_its_lease_back_and_another_process_loads_at_once() {
    let hand = Clock::manual();
    let (tier, loader) = (fake("redis", &hand), Loader::default());
    let lease = || FixedStampede(Coalesce::Lease);
    let full = without_near().clock(&hand).tier(tier.clone()).stampede(lease()).max_loads(1).build().unwrap();
    let other = without_near().clock(&hand).tier(tier.another_handle()).stampede(lease()).build().unwrap();
    let held = begin(&full, "a", loader.give(1, secs(5))).await;
    let refused = begin(&full, "k", loader.give(2, ms(1))).await;
    let began = Instant::now();
    assert_eq!(other.get_or_load("k", || loader.give(3, ms(1))).await.unwrap(), 3);
    assert!(began.elapsed() < ms(400), "{:?}", began.elapsed());
    assert_eq!(refused.await.unwrap().unwrap_err().kind(), ErrorKind::Busy);
    held.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn tenants_of_one_cache_share_its_limit() {
    let tenants = builder().max_loads(1).build_per_tenant().unwrap();
    let (ann, bob, loader) =
        (tenants.tenant("ann").unwrap(), tenants.tenant("bob").unwrap(), Loader::default());
    let held = begin(&ann, "k", loader.give(1, secs(1))).await;
    assert_eq!(bob.get_or_load("k", || loader.give(2, ms(1))).await.unwrap_err().kind(), ErrorKind::Busy);
    held.await.unwrap().unwrap();
    assert_eq!(bob.get_or_load("k", || loader.give(2, ms(1))).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_that_share_no_load_are_limited_too_and_so_is_refresh() {
    let nobody = FixedStampede(Coalesce::Nobody);
    let (cache, loader) = (builder().stampede(nobody).max_loads(2).build().unwrap(), Loader::default());
    let calls = join_all((0..5).map(|_| begin(&cache, "k", loader.give(1, secs(1))))).await;
    assert_eq!(loader.runs(), 2);
    let error = cache.refresh("k", |_| loader.give(2, ms(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count(), 2);
}

#[tokio::test]
async fn a_limit_of_zero_is_refused_at_build() {
    let error = builder().max_loads(0).build().map(drop).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("max_loads"), "{error}");
    assert!(builder().max_loads(usize::MAX).level(Level::Fenced).build().is_ok());
    settle().await;
}
