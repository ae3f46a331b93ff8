//! How long reads take while Redis is killed or stopped, beside reads of the store alone under the
//! same load in the same run: `cargo run --release -p terrace-bench-harness --bin outage`.
//!
//! The near tier is off. 100,000 keys are in Redis before a Postgres store, and 200 readers each read
//! one key after the other. Both servers are private and share this machine with the readers.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use terrace::{Cache, Postgres, Redis};
use terrace_testbed as testbed;
use tokio::time::sleep;

type Stack = Cache<u64, String>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const KEYS: u64 = 100_000;
const READERS: u64 = 200;
const PHASE: Duration = Duration::from_secs(5);
/// How long a phase reads before the fault. The moment of the fault is measured too.
const BEFORE: Duration = Duration::from_millis(500);
/// The default budget of a cache tier.
const BUDGET: Duration = Duration::from_millis(50);
/// How long a read may take beyond the budget and the store.
const ALLOWANCE: Duration = Duration::from_millis(20);

/// The sorted latencies of a phase, and its reads that failed or came from Redis.
struct Tally {
    sorted: Vec<Duration>,
    failed: u64,
    from_redis: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let (redis, server) = (testbed::Redis::start().await?, testbed::Postgres::start().await?);
    let postgres = Postgres::new(&server.url())?;
    let through: Stack =
        Cache::builder("outage").tier(Redis::new(redis.url())?).store(postgres.clone()).build()?;
    let alone: Stack = Cache::builder("outage").store(postgres).build()?;
    fill(&alone).await?;
    warm(&through).await?;

    let normal = measure(&through, || Ok(())).await?;
    let store_before = measure(&alone, || Ok(())).await?;
    let killed = measure(&through, || redis.kill9()).await?;
    redis.restart().await?;
    warm(&through).await?;
    let store_between = measure(&alone, || Ok(())).await?;
    let stopped = measure(&through, || redis.pause()).await?;
    redis.resume()?;
    warm(&through).await?;
    let again = measure(&through, || Ok(())).await?;
    let store_after = measure(&alone, || Ok(())).await?;
    let store = merged([store_before, store_between, store_after]);

    println!("{KEYS} keys, {READERS} readers, near off, {PHASE:?} a phase; milliseconds\n");
    println!("| redis is | reads | failed | from redis | p50 | p99 | p99.9 | max |");
    println!("|---|---|---|---|---|---|---|---|");
    let rows = [("there", &normal), ("killed", &killed), ("stopped", &stopped), ("there again", &again)];
    for (name, tally) in rows.into_iter().chain([("not used: the store alone", &store)]) {
        print_row(name, tally);
    }
    let bound = BUDGET + store.quantile(0.999) + ALLOWANCE;
    println!("\np99.9 of the store alone + budget {BUDGET:?} + {ALLOWANCE:?} = {bound:.1?}");
    let mut met = true;
    for (name, tally) in [("killed", &killed), ("stopped", &stopped)] {
        let holds = tally.failed == 0 && tally.quantile(0.999) <= bound;
        println!("{name}: p99.9 {:.1?}: {}", tally.quantile(0.999), if holds { "met" } else { "MISSED" });
        met &= holds;
    }
    if met { Ok(()) } else { Err("an outage costs more than the bound allows".into()) }
}

fn value_of(key: u64) -> String {
    format!("value of {key}, {}", "and so on ".repeat(15))
}

/// Puts all records into the store.
async fn fill(cache: &Stack) -> Outcome<()> {
    for first in (0..KEYS).step_by(1_000) {
        for put in cache.put_many((first..first + 1_000).map(|key| (key, value_of(key)))).await {
            put?;
        }
    }
    Ok(())
}

/// Reads all keys until Redis has nearly all of them.
async fn warm(cache: &Stack) -> Outcome<()> {
    let hits = || cache.stats().tier("redis").map_or(0, |redis| redis.hits);
    for _ in 0..100 {
        let before = hits();
        for first in (0..KEYS).step_by(500) {
            let keys: Vec<u64> = (first..first + 500).collect();
            cache.get_many(&keys).await.into_values()?;
        }
        cache.settled().await;
        if hits() - before >= KEYS * 99 / 100 {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err("Redis did not serve reads again".into())
}

/// Reads for one phase; `fault` runs shortly after its start.
async fn measure(cache: &Stack, fault: impl FnOnce() -> testbed::Result<()>) -> Outcome<Tally> {
    let stop = Arc::new(AtomicBool::new(false));
    let hits = || cache.stats().tier("redis").map_or(0, |redis| redis.hits);
    let before = hits();
    let readers: Vec<_> =
        (0..READERS).map(|reader| tokio::spawn(read(cache.clone(), reader, Arc::clone(&stop)))).collect();
    sleep(BEFORE).await;
    fault()?;
    sleep(PHASE).await;
    stop.store(true, Ordering::Relaxed);
    let mut tally = Tally { sorted: Vec::new(), failed: 0, from_redis: 0 };
    for reader in readers {
        let (latencies, failed) = reader.await?;
        tally.sorted.extend(latencies);
        tally.failed += failed;
    }
    tally.sorted.sort_unstable();
    tally.from_redis = hits() - before;
    Ok(tally)
}

/// Runs one reader. It checks every value; a wrong or missing value counts as a failed read.
async fn read(cache: Stack, reader: u64, stop: Arc<AtomicBool>) -> (Vec<Duration>, u64) {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    let mut state = reader.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while !stop.load(Ordering::Relaxed) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (state >> 33) % KEYS;
        let began = Instant::now();
        let found = cache.get(&key).await;
        latencies.push(began.elapsed());
        let right = matches!(&found, Ok(Some(value)) if **value == value_of(key));
        failed += u64::from(!right);
    }
    (latencies, failed)
}

fn merged<const N: usize>(tallies: [Tally; N]) -> Tally {
    let mut all = Tally { sorted: Vec::new(), failed: 0, from_redis: 0 };
    for tally in tallies {
        all.sorted.extend(tally.sorted);
        all.failed += tally.failed;
    }
    all.sorted.sort_unstable();
    all
}

impl Tally {
    fn quantile(&self, part: f64) -> Duration {
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }
}

fn print_row(name: &str, tally: &Tally) {
    let millis = |part| tally.quantile(part).as_secs_f64() * 1_000.0;
    println!(
        "| {name} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        tally.sorted.len(),
        tally.failed,
        tally.from_redis,
        millis(0.5),
        millis(0.99),
        millis(0.999),
        millis(1.0)
    );
}
