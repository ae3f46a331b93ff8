//! A clear empties the near tiers of other processes too, and nothing that it made dead comes back.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use terrace::{BoxError, Cache, Memory, Redis, Result, Ttl};
use terrace_testbed::{shared_redis, unique_name};
use tokio::time::sleep;

const KEYS: u64 = 200;
const CLEARS: u64 = 20;

/// A cache as another process has it, with a handle of its own.
fn process(url: &str, name: &str) -> Result<Cache<u64, u64>> {
    let ttl = Ttl::of(Duration::from_secs(60));
    Cache::builder(name).near(Memory::entries(10_000)).tier(Redis::new(url)?).expire(ttl).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_clear_the_near_tier_of_a_busy_reader_has_no_old_value() -> Result<()> {
    let redis = shared_redis().await.expect("a Redis");
    let name = unique_name("clear");
    let (reader, writer) = (process(&redis, &name)?, process(&redis, &name)?);
    reader.ready().await?;
    let origin = Arc::new(AtomicU64::new(0));
    let load = |origin: &Arc<AtomicU64>| {
        let origin = Arc::clone(origin);
        move || async move { Ok::<_, BoxError>(origin.load(Ordering::SeqCst)) }
    };
    let reading = tokio::spawn({
        let (reader, origin) = (reader.clone(), Arc::clone(&origin));
        async move {
            for key in (0..KEYS).cycle() {
                if let Err(error) = reader.get_or_load(&key, load(&origin)).await {
                    return error;
                }
                if key == 0 {
                    tokio::task::yield_now().await;
                }
            }
            unreachable!("a cycle has no end")
        }
    });
    let mut old = Vec::new();
    for clear in 1..=CLEARS {
        sleep(Duration::from_millis(20)).await;
        origin.store(clear, Ordering::SeqCst);
        writer.clear().await?;
        sleep(Duration::from_millis(150)).await;
        for key in 0..KEYS {
            let found = reader.get_or_load(&key, load(&origin)).await?;
            if *found < clear {
                old.push((clear, key, *found, found.served().from));
            }
        }
    }
    assert!(!reading.is_finished(), "the reader reads all the time");
    reading.abort();
    assert!(old.is_empty(), "{} old values, the first is {:?}", old.len(), old.first());
    Ok(())
}
