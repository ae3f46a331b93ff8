//! What an origin answers while a cache in front of it is overloaded and loses its Redis:
//! `cargo run --release -p terrace-bench-harness --bin overload [-- --max-loads N]`. Without the flag it runs with a
//! limit of 40 loads, and then with the default.
//!
//! The origin is a pool of 20 connections whose loads take 50 ms, so it answers 400 loads a second. 2,000 calls a
//! second ask for 100,000 keys, whatever became of the calls before (an open loop). Redis is killed after 3 s and is
//! back, empty, after 11 s. A call gives up after a second. The private server shares this machine with the callers.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use terrace::{Cache, ErrorKind, Memory, Redis, Source, Stats};
use terrace_testbed as testbed;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, sleep_until, timeout},
};

type Stack = Cache<u64, String>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: overload [--max-loads N]";
const KEYS: u64 = 100_000;
const NEAR_ENTRIES: u64 = 1_000;
const POOL: usize = 20;
const LOAD: Duration = Duration::from_millis(50);
/// What the pool answers in a second.
const CAPACITY: u64 = 400;
const CALLS_PER_TICK: u64 = 2;
const TICK: Duration = Duration::from_millis(1);
const KILLED: u64 = 3;
const BACK: u64 = 11;
const WINDOWS: u64 = 22;
const PATIENCE: Duration = Duration::from_secs(1);
const LEAST_GOOD: u64 = CAPACITY * 85 / 100;
const MOST_P99: Duration = Duration::from_millis(300);

/// How one call ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// A value that the origin gave for this call.
    Loaded,
    /// A value of another call's load.
    Shared,
    Near,
    Redis,
    Busy,
    Failed,
    GaveUp,
}

struct Call {
    ended: Instant,
    took: Duration,
    end: End,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let runs = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => vec![Some(40), None],
        (Some("--max-loads"), Some(max)) => vec![Some(max.parse()?)],
        _ => return Err(USAGE.into()),
    };
    let mut met = true;
    for max_loads in runs {
        met &= run(max_loads).await?;
    }
    if met { Ok(()) } else { Err("the origin did not do what it can, or calls took too long".into()) }
}

async fn run(max_loads: Option<usize>) -> Outcome<bool> {
    let server = testbed::Redis::start().await?;
    let builder =
        Cache::builder("overload").near(Memory::entries(NEAR_ENTRIES)).tier(Redis::new(server.url())?);
    let cache: Stack = match max_loads {
        Some(max) => builder.max_loads(max).build()?,
        None => builder.build()?,
    };
    cache.ready().await?;
    let began = Instant::now();
    let (send, calls) = mpsc::unbounded_channel();
    let traffic = tokio::spawn(traffic(cache.clone(), began, send));
    sleep_until(began + Duration::from_secs(KILLED)).await;
    server.kill9()?;
    sleep_until(began + Duration::from_secs(BACK)).await;
    server.restart().await?;
    let back = cache.stats();
    sleep_until(began + Duration::from_secs(BACK + 10)).await;
    let (later, took_back) = (cache.stats(), began.elapsed());
    traffic.await?;
    let limit =
        max_loads.map_or("the default limit of loads".to_owned(), |max| format!("{max} loads at a time"));
    println!("{limit}: {} calls/s, origin of {CAPACITY} loads/s", CALLS_PER_TICK * 1_000);
    println!("Redis is killed at {KILLED} s and back, empty, at {BACK} s\n");
    let met = judge(&windows(began, calls), &later) & has_recovered(&back, &later);
    println!("(statistics taken at {took_back:.1?}) {limit}: {}\n", if met { "met" } else { "MISSED" });
    Ok(met)
}

/// Makes calls at a fixed rate, each in a task of its own, and waits until all have ended.
async fn traffic(cache: Stack, began: Instant, send: mpsc::UnboundedSender<Call>) {
    let pool = Arc::new(Semaphore::new(POOL));
    let serial = Arc::new(AtomicU64::new(0));
    let mut ticks = tokio::time::interval_at(began, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while began.elapsed() < Duration::from_secs(WINDOWS) {
        let due = ticks.tick().await;
        for _ in 0..CALLS_PER_TICK {
            let key = key_of(serial.fetch_add(1, Ordering::Relaxed));
            let (cache, pool, send) = (cache.clone(), Arc::clone(&pool), send.clone());
            tokio::spawn(async move {
                let end = timeout(PATIENCE, call(&cache, key, pool)).await.unwrap_or(End::GaveUp);
                // The receiver may have left, since its program has ended.
                let _ = send.send(Call { ended: Instant::now(), took: due.elapsed(), end });
            });
        }
    }
    drop(send);
    cache.settled().await;
}

/// Calls pick their keys at random, and the same ones in each run.
fn key_of(serial: u64) -> u64 {
    let mixed = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) % KEYS
}

async fn call(cache: &Stack, key: u64, pool: Arc<Semaphore>) -> End {
    let load = move || async move {
        let _connection = pool.acquire_owned().await.map_err(std::io::Error::other)?;
        tokio::time::sleep(LOAD).await;
        Ok::<_, std::io::Error>(format!("value of {key}"))
    };
    match cache.get_or_load(&key, load).await {
        Ok(value) => match value.served() {
            served if served.coalesced => End::Shared,
            served if served.from == Source::Loader => End::Loaded,
            served if served.from == Source::Near => End::Near,
            _ => End::Redis,
        },
        Err(error) if error.kind() == ErrorKind::Busy => End::Busy,
        Err(_) => End::Failed,
    }
}

/// The calls by the second in which they ended, without those that ended after the last window.
fn windows(began: Instant, mut calls: mpsc::UnboundedReceiver<Call>) -> Vec<Vec<Call>> {
    let mut windows: Vec<Vec<Call>> = (0..WINDOWS).map(|_| Vec::new()).collect();
    while let Ok(call) = calls.try_recv() {
        let second = call.ended.duration_since(began).as_secs() as usize;
        if let Some(window) = windows.get_mut(second) {
            window.push(call);
        }
    }
    windows
}

/// Prints each window. The result is whether the origin was busy in all of them, and no other call took long.
fn judge(windows: &[Vec<Call>], stats: &Stats) -> bool {
    println!(
        "| second | from the origin | shared | near | redis | busy | failed | gave up | p99 of the rest, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut others = Vec::new();
    let mut least = u64::MAX;
    for (second, calls) in windows.iter().enumerate() {
        let count = |end| calls.iter().filter(|call| call.end == end).count() as u64;
        let is_other = |call: &&Call| !matches!(call.end, End::Loaded | End::Shared);
        let mut rest: Vec<Duration> = calls.iter().filter(is_other).map(|call| call.took).collect();
        let good = count(End::Loaded);
        least = least.min(good);
        println!(
            "| {second} | {good} | {} | {} | {} | {} | {} | {} | {:.1} |",
            count(End::Shared),
            count(End::Near),
            count(End::Redis),
            count(End::Busy),
            count(End::Failed),
            count(End::GaveUp),
            millis(p99(&mut rest)),
        );
        others.append(&mut rest);
    }
    let loads = windows.iter().flatten().filter(|call| call.end == End::Loaded);
    let mut loads: Vec<Duration> = loads.map(|call| call.took).collect();
    let slowest = p99(&mut others);
    println!("\nanswers of the origin: at least {least} in each second, {LEAST_GOOD} are wanted");
    println!("their p99: {:.1} ms; refused loads: {}", millis(p99(&mut loads)), stats.loads_refused);
    println!("p99 of all other calls: {:.1} ms, {:.0} are allowed", millis(slowest), millis(MOST_P99));
    least >= LEAST_GOOD && slowest <= MOST_P99
}

fn has_recovered(back: &Stats, later: &Stats) -> bool {
    let redis = |stats: &Stats| stats.tier("redis").map_or((0, 0), |redis| (redis.fills, redis.hits));
    let ((fills, hits), (later_fills, later_hits)) = (redis(back), redis(later));
    println!("in the 10 s after Redis' return: {} fills, {} hits", later_fills - fills, later_hits - hits);
    later_fills > fills && later_hits > hits
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
