//! How often a failing origin is called, and how long reads of stale values take meanwhile:
//! `cargo run --release -p terrace-bench-harness --bin failing_origin`.
//!
//! 1,000 keys are stale in the near tier. 10,000 reads a second ask for them, whatever became of the reads before
//! (an open loop). In one phase the origin fails after a millisecond, in another one it hangs; both with values that
//! are served stale on errors, and with values that are served stale while they are renewed.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use terrace::{Cache, Memory, Ttl};
use tokio::{
    sync::{Mutex, mpsc},
    time::MissedTickBehavior,
};

type Stack = Cache<u64, u64>;
type Outcome<T> = Result<T, Box<dyn Error>>;
/// When the origin was called, by key.
type Calls = Arc<Vec<Mutex<Vec<Instant>>>>;

const KEYS: u64 = 1_000;
const READS_PER_TICK: u64 = 10;
const TICK: Duration = Duration::from_millis(1);
const PHASE: Duration = Duration::from_secs(16);
const LIFE: Duration = Duration::from_secs(1);
const STALE: Duration = Duration::from_secs(3_600);
const FAILS_AFTER: Duration = Duration::from_millis(1);
/// The soft timeout unless another one is set.
const SOFT: Duration = Duration::from_secs(1);
/// The pauses without the part that chance adds; a try begins each of them.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
const MOST_CALLS: f64 = 1.2;
const MOST_P99: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Fails,
    Hangs,
}

struct Read {
    key: u64,
    began: Instant,
    took: Duration,
    is_stale: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    println!("{KEYS} stale keys, {} reads/s, {PHASE:?} a phase\n", READS_PER_TICK * 1_000);
    println!(
        "| stale values | origin | reads | not stale | calls | calls a key and pause | p50 ms | p99 ms | aside |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut met = true;
    let (on_error, meanwhile) =
        (Ttl::of(LIFE).stale_if_error(STALE), Ttl::of(LIFE).stale_while_revalidate(STALE));
    for (name, expiry) in [("on errors", on_error), ("while renewed", meanwhile)] {
        for fault in [Fault::Fails, Fault::Hangs] {
            met &= phase(name, expiry, fault).await?;
        }
    }
    println!(
        "\nat most {MOST_CALLS} calls a key and pause, p99 below {MOST_P99:?}: {}",
        if met { "met" } else { "MISSED" }
    );
    if met { Ok(()) } else { Err("the origin was called too often, or stale answers came too late".into()) }
}

async fn phase(name: &str, expiry: Ttl, fault: Fault) -> Outcome<bool> {
    let cache: Stack = Cache::builder("failing").near(Memory::entries(10 * KEYS)).expire(expiry).build()?;
    for key in 0..KEYS {
        cache.put(&key, key).await?;
    }
    tokio::time::sleep(LIFE + Duration::from_millis(100)).await;
    let calls: Calls = Arc::new((0..KEYS).map(|_| Mutex::default()).collect());
    let mut reads = traffic(&cache, fault, &calls).await;
    let mut times = Vec::new();
    for calls in calls.iter() {
        times.push(calls.lock().await.clone());
    }
    Ok(report(name, fault, &mut reads, &times))
}

/// Reads for one phase at a fixed rate, each read in a task of its own.
async fn traffic(cache: &Stack, fault: Fault, calls: &Calls) -> Vec<Read> {
    let (send, mut reads) = mpsc::unbounded_channel();
    let (began, mut serial) = (Instant::now(), 0_u64);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while began.elapsed() < PHASE {
        ticks.tick().await;
        for _ in 0..READS_PER_TICK {
            serial += 1;
            let key = (serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % KEYS;
            let (cache, calls, send) = (cache.clone(), Arc::clone(calls), send.clone());
            tokio::spawn(async move {
                let began = Instant::now();
                let load = || async move {
                    calls[key as usize].lock().await.push(Instant::now());
                    match fault {
                        Fault::Fails => tokio::time::sleep(FAILS_AFTER).await,
                        Fault::Hangs => std::future::pending().await,
                    }
                    Err::<u64, _>(std::io::Error::other("the origin fails"))
                };
                let answer = cache.get_or_load(&key, load).await;
                let is_stale = answer.is_ok_and(|value| *value == key && value.served().stale);
                // The receiver stays until all reads have ended.
                let _ = send.send(Read { key, began, took: began.elapsed(), is_stale });
            });
        }
    }
    drop(send);
    let mut all = Vec::new();
    while let Some(read) = reads.recv().await {
        all.push(read);
    }
    all
}

fn report(name: &str, fault: Fault, reads: &mut [Read], calls: &[Vec<Instant>]) -> bool {
    let total: usize = calls.iter().map(Vec::len).sum();
    let mut begins = Duration::ZERO;
    let pauses = PAUSES.iter().take_while(|pause| {
        let begun = begins < PHASE;
        begins += **pause;
        begun
    });
    let a_key_and_pause = total as f64 / KEYS as f64 / pauses.count() as f64;
    let too_soon = calls.iter().flat_map(|calls| calls.windows(2).zip(PAUSES));
    let too_soon = too_soon.filter(|(pair, pause)| pair[1] - pair[0] < pause.mul_f64(0.99)).count();
    // A read that waits with the first reader of a try is a part of that try.
    let try_lasts = if fault == Fault::Hangs { SOFT } else { 2 * FAILS_AFTER };
    let is_measured = |read: &&Read| {
        let is_part = |call: &Instant| *call <= read.began + read.took && read.began <= *call + try_lasts;
        !calls[read.key as usize].iter().any(is_part)
    };
    let mut times: Vec<Duration> = reads.iter().filter(is_measured).map(|read| read.took).collect();
    times.sort_unstable();
    let at = |percent: usize| {
        times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
    };
    let fresh = reads.iter().filter(|read| !read.is_stale).count();
    println!(
        "| {name} | {fault:?} | {} | {fresh} | {total} | {a_key_and_pause:.2} | {:.3} | {:.3} | {} |",
        reads.len(),
        at(50).as_secs_f64() * 1_000.0,
        at(99).as_secs_f64() * 1_000.0,
        reads.len() - times.len(),
    );
    if too_soon > 0 {
        println!("{too_soon} calls came before the pause of their key was over");
    }
    fresh == 0 && too_soon == 0 && a_key_and_pause <= MOST_CALLS && at(99) < MOST_P99
}
