//! The effect of policies on a cache, with a manual clock.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use terrace::{
    Builder, Cache, Clock, Level, ManualClock, Memory, NoCoalescing, Result, SizeLimit, Source,
    StaleWhileRevalidate, Strict, Ttl, WriteAround,
};
use terrace_conformance::Fake;

type Words = Cache<u64, String>;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn near(clock: &ManualClock) -> Builder<u64, String, Memory<u64, String>> {
    Cache::builder("words").near(Memory::entries(10)).clock(clock)
}

fn far(clock: &ManualClock) -> Builder<u64, String, Memory<u64, String>> {
    Cache::builder("words").clock(clock)
}

/// Reads with a loader that gives `value`.
async fn load(cache: &Words, value: &'static str) -> Result<String> {
    let load = || async move { Ok::<_, io::Error>(value.to_owned()) };
    Ok(cache.get_or_load(&1, load).await?.to_string())
}

/// Reads with a loader that fails.
async fn fail(cache: &Words) -> Result<String> {
    let load = || async { Err::<String, _>(io::Error::other("the origin is away")) };
    Ok(cache.get_or_load(&1, load).await?.to_string())
}

#[tokio::test]
async fn stale_while_revalidate_serves_the_old_value_and_renews_it() -> Result<()> {
    let clock = Clock::manual();
    let expiry = Ttl::secs(60).stale_while_revalidate(secs(30));
    let tier = Fake::with_clock("tier", (&clock).into());
    for cache in [near(&clock).expire(expiry).build()?, far(&clock).tier(tier).expire(expiry).build()?] {
        assert_eq!(load(&cache, "old").await?, "old");
        cache.settled().await;
        clock.advance(secs(61));
        let stale = cache.get_or_load(&1, || async { Ok::<_, io::Error>("new".to_owned()) }).await?;
        assert_eq!((stale.as_str(), stale.served().stale), ("old", true));
        cache.settled().await;
        assert_eq!(cache.get(&1).await?.as_deref().map(String::as_str), Some("new"));
    }
    Ok(())
}

#[tokio::test]
async fn after_its_window_a_stale_value_is_gone() -> Result<()> {
    let clock = Clock::manual();
    let cache = near(&clock).expire(Ttl::secs(60).stale_while_revalidate(secs(30))).build()?;
    load(&cache, "old").await?;
    clock.advance(secs(90));
    assert_eq!(load(&cache, "new").await?, "new");
    Ok(())
}

#[tokio::test]
async fn stale_if_error_serves_the_old_value_after_an_error_alone() -> Result<()> {
    let clock = Clock::manual();
    let expiry = Ttl::secs(60).stale_if_error(secs(600));
    let tier = Fake::with_clock("tier", (&clock).into());
    for cache in [near(&clock).expire(expiry).build()?, far(&clock).tier(tier).expire(expiry).build()?] {
        load(&cache, "old").await?;
        cache.settled().await;
        clock.advance(secs(61));
        assert_eq!(fail(&cache).await?, "old");
        assert_eq!(load(&cache, "new").await?, "old", "the next try comes after a pause");
        clock.advance(secs(2));
        assert_eq!(load(&cache, "new").await?, "new");
        cache.settled().await;
        clock.advance(secs(661));
        assert!(fail(&cache).await.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn a_freshness_policy_of_the_cache_holds_wherever_it_stands() -> Result<()> {
    let clock = Clock::manual();
    let expiry = Ttl::secs(60).stale_while_revalidate(secs(30));
    let strict =
        [near(&clock).freshness(Strict).expire(expiry), near(&clock).expire(expiry).freshness(Strict)];
    let later = near(&clock).expire(expiry).expire(Ttl::secs(60));
    for cache in strict.into_iter().chain([later]) {
        let cache = cache.build()?;
        load(&cache, "old").await?;
        clock.advance(secs(61));
        assert_eq!(load(&cache, "new").await?, "new");
    }
    let windows = StaleWhileRevalidate::within(secs(5));
    let cache = near(&clock).freshness(windows).expire(Ttl::secs(60).stale_if_error(secs(30))).build()?;
    load(&cache, "old").await?;
    clock.advance(secs(61));
    assert_eq!(load(&cache, "new").await?, "old");
    Ok(())
}

#[tokio::test]
async fn an_absence_is_kept_for_its_own_time() -> Result<()> {
    let clock = Clock::manual();
    let loads = Arc::new(AtomicU64::new(0));
    let cache: Words = near(&clock).expire(Ttl::secs(60).negative(secs(2))).build()?;
    let load = || {
        let loads = Arc::clone(&loads);
        cache.get_or_load_with(&1, move |_| async move {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok::<Option<String>, io::Error>(None)
        })
    };
    assert!(load().await?.is_none() && load().await?.is_none());
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    clock.advance(secs(2));
    assert!(load().await?.is_none());
    assert_eq!(loads.load(Ordering::Relaxed), 2);
    Ok(())
}

#[tokio::test]
async fn a_value_too_large_for_a_tier_is_served_by_a_farther_one() -> Result<()> {
    let clock = Clock::manual();
    let [small, large] = ["small", "large"].map(|name| Fake::with_clock(name, (&clock).into()));
    let cache: Words = far(&clock).tier(small).tier(large).admit(SizeLimit::in_tier("small", 200)).build()?;
    // Both values are too small to be compressed. The second one replaces the first.
    for bytes in [10, 1_000] {
        cache.put(&1, "x".repeat(bytes)).await?;
    }
    for _ in 0..2 {
        let hit = cache.get(&1).await?.map(|hit| (hit.len(), hit.served().from));
        assert_eq!(hit, Some((1_000, Source::Tier("large"))));
        cache.settled().await;
    }
    cache.put(&1, "x".repeat(10)).await?;
    for from in ["large", "small"] {
        let hit = cache.get(&1).await?.map(|hit| (hit.len(), hit.served().from));
        assert_eq!(hit, Some((10, Source::Tier(from))));
        cache.settled().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_value_too_large_for_the_farthest_tier_drops_what_was_there() -> Result<()> {
    let clock = Clock::manual();
    for level in [Level::Fenced, Level::Ttl] {
        let tier = Fake::with_clock("tier", (&clock).into());
        let cache: Words = far(&clock).tier(tier).admit(SizeLimit::bytes(200)).level(level).build()?;
        for bytes in [10, 1_000] {
            cache.put(&1, "x".repeat(bytes)).await?;
        }
        assert!(cache.get(&1).await?.is_none());
        cache.put(&1, "x".repeat(10)).await?;
        assert!(cache.get(&1).await?.is_some());
    }
    Ok(())
}

#[tokio::test]
async fn write_around_leaves_the_copies_to_the_next_read() -> Result<()> {
    let clock = Clock::manual();
    let [tier, store] = ["tier", "store"].map(|name| Fake::with_clock(name, (&clock).into()));
    let cache: Words = far(&clock).tier(tier).store(store).write(WriteAround).build()?;
    cache.put(&1, "new".to_owned()).await?;
    for from in [Source::Store("store"), Source::Tier("tier")] {
        let served = cache.get(&1).await?.map(|hit| hit.served().from);
        assert_eq!(served, Some(from));
        cache.settled().await;
    }
    Ok(())
}

#[tokio::test]
async fn unshared_callers_load_for_themselves() -> Result<()> {
    let clock = Clock::manual();
    let loads = Arc::new(AtomicU64::new(0));
    let cache: Words = near(&clock).stampede(NoCoalescing).build()?;
    let load = || {
        let loads = Arc::clone(&loads);
        cache.get_or_load(&1, move || async move {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, io::Error>("value".to_owned())
        })
    };
    let (first, second) = tokio::join!(load(), load());
    assert_eq!((first?.as_str(), second?.as_str()), ("value", "value"));
    assert_eq!(loads.load(Ordering::Relaxed), 2);
    Ok(())
}
