//! A clear empties the near tiers of other processes too, and nothing that it made dead comes back.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use terrace::{BoxError, Cache, Memory, Redis, Result, TierSettings, Ttl};
use terrace_testbed::{shared_redis, unique_name};
use tokio::time::{Instant, sleep};

const KEYS: u64 = 200;
/// The budget of a call, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);
const CLEARS: u64 = 20;

/// A cache as another process has it, with a handle of its own.
fn process(url: &str, name: &str) -> Result<Cache<u64, u64>> {
    let ttl = Ttl::of(Duration::from_secs(60));
    Cache::builder(name)
        .near(Memory::entries(10_000))
        .tier(Redis::new(url)?.budget(PATIENCE))
        .expire(ttl)
        .build()
}

/// A loader that gives the present value of the origin for every key.
fn load(origin: &Arc<AtomicU64>) -> impl FnOnce() -> Ready<Result<u64, BoxError>> + Send + 'static + use<> {
    let origin = Arc::clone(origin);
    move || ready(Ok(origin.load(Ordering::SeqCst)))
}

/// The number of keys that the reader reads as they were before `clear`.
async fn old_values(reader: &Cache<u64, u64>, clear: u64, origin: &Arc<AtomicU64>) -> Result<usize> {
    let mut old = 0;
    for key in 0..KEYS {
        old += usize::from(*reader.get_or_load(&key, load(origin)).await? < clear);
    }
    Ok(old)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_clear_the_near_tier_of_a_busy_reader_has_no_old_value() -> Result<()> {
    let redis = shared_redis().await.expect("a Redis");
    let name = unique_name("clear");
    let (reader, writer) = (process(&redis, &name)?, process(&redis, &name)?);
    reader.ready().await?;
    let origin = Arc::new(AtomicU64::new(0));
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
    let mut late = 0;
    for clear in 1..=CLEARS {
        sleep(Duration::from_millis(20)).await;
        origin.store(clear, Ordering::SeqCst);
        writer.clear().await?;
        sleep(Duration::from_millis(150)).await;
        late += usize::from(old_values(&reader, clear, &origin).await? > 0);
        // A busy machine hears of the clear later. What near kept by mistake stays for the life of a minute.
        let deadline = Instant::now() + Duration::from_secs(20);
        while old_values(&reader, clear, &origin).await? > 0 {
            assert!(Instant::now() < deadline, "near still has old values after clear {clear}");
            sleep(Duration::from_millis(50)).await;
        }
    }
    println!("after {late} of {CLEARS} clears near had an old value 150 ms later");
    assert!(!reading.is_finished(), "the reader reads all the time");
    reading.abort();
    Ok(())
}
