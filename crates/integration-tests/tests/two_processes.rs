//! Two processes, each with a near tier, over one Redis or one Postgres: one writes, the other reads.
//! `cargo xtask bench-report delivery` measures how soon a write is read.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use support::PATIENCE;
use terrace::{Cache, Memory, Postgres, Redis, Source, TierSettings};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};
use tokio::time::{Instant, sleep, sleep_until};

/// Set in the child process, which runs the same test.
const CHILD: &str = "TERRACE_TEST_WRITER";
const KEYS: u64 = 100;
const WRITES: u64 = 3_000;
/// The time from one write to the next.
const WRITE_INTERVAL: Duration = Duration::from_millis(1);
/// Near copies that the log does not cover expire after a second, so half of the writes would be read after 500 ms
/// or later if the log reported nothing. Delivery by the log takes some milliseconds, and a busy machine delays
/// some writes by far more: so the median decides.
const UNDELIVERED_MICROS: u64 = 300_000;

type Stack = Cache<u64, u64>;

fn over_redis(url: &str, namespace: &str) -> Stack {
    let redis = Redis::builder(url).allow_plaintext().build().unwrap().budget(PATIENCE);
    Cache::builder(namespace).near(Memory::entries(1_000)).tier(redis).build().unwrap()
}

fn over_postgres(url: &str, namespace: &str) -> Stack {
    let postgres = Postgres::new(url).unwrap().budget(PATIENCE);
    Cache::builder(namespace).near(Memory::entries(1_000)).store(postgres).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_elsewhere_are_read_in_order_and_sooner_than_near_copies_end_over_redis() {
    let test = "writes_elsewhere_are_read_in_order_and_sooner_than_near_copies_end_over_redis";
    both_processes(test, over_redis, shared_redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_elsewhere_are_read_in_order_and_sooner_than_near_copies_end_over_postgres() {
    let test = "writes_elsewhere_are_read_in_order_and_sooner_than_near_copies_end_over_postgres";
    both_processes(test, over_postgres, shared_postgres).await;
}

/// Runs the writer in the child process, and otherwise the reader, which starts the child.
async fn both_processes(
    test: &str,
    stack: impl Fn(&str, &str) -> Stack,
    server: impl AsyncFn() -> terrace_testbed::Result<String>,
) {
    if let Ok(args) = std::env::var(CHILD) {
        let (url, namespace) = args.split_once(' ').unwrap();
        return write(&stack(url, namespace)).await;
    }
    let (url, namespace) = (server().await.unwrap(), unique_name("processes"));
    let cache = stack(&url, &namespace);
    let writer = start_writer(test, &format!("{url} {namespace}"));
    let start = Instant::now();
    while !writer.has("ready") {
        assert!(start.elapsed() < PATIENCE && !writer.has("done"), "the writer did not begin");
        sleep(Duration::from_millis(1)).await;
    }
    let Reads { first, near, reads } = watch(&cache, &writer).await;
    let mut late: Vec<u64> = writer.acknowledged().map(|write| lateness(write, &first)).collect();
    late.sort_unstable();
    let at = |share: usize| late[(late.len() - 1) * share / 1_000];
    let took = writer.took();
    println!(
        "{} writes in {took:?}, read elsewhere after p50 {} us, p90 {} us, p99 {} us, at most {} us; \
         {near} of {reads} reads were near hits",
        late.len(),
        at(500),
        at(900),
        at(990),
        at(1_000),
    );
    assert_eq!(late.len() as u64, WRITES);
    assert!(near > reads / 2, "near must serve most reads: {near} of {reads}");
    assert!(at(500) < UNDELIVERED_MICROS, "the log does not deliver: p50 {} us", at(500));
}

/// Microseconds of the system's clock, which both processes read.
fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// The child process: it writes growing values, and prints when each was acknowledged.
async fn write(cache: &Stack) {
    for key in 0..KEYS {
        cache.put(&key, 0).await.unwrap();
    }
    let mut out = std::io::stdout().lock();
    // The test runner has begun the line, so this one starts with its end.
    writeln!(out, "\nready").unwrap();
    let start = Instant::now();
    for value in 1..=WRITES {
        sleep_until(start + WRITE_INTERVAL * value as u32).await;
        let key = value % KEYS;
        cache.put(&key, value).await.unwrap();
        writeln!(out, "wrote {key} {value} {}", micros()).unwrap();
    }
    writeln!(out, "done").unwrap();
}

/// The lines that the child process has printed so far.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    fn has(&self, line: &str) -> bool {
        self.0.lock().unwrap().iter().rev().any(|printed| printed == line)
    }

    /// Key, value and time of each acknowledged write.
    fn acknowledged(&self) -> impl Iterator<Item = [u64; 3]> + use<> {
        let lines = self.0.lock().unwrap().clone();
        lines.into_iter().filter_map(|line| {
            let numbers = line.strip_prefix("wrote ")?.split(' ').map(|number| number.parse().unwrap());
            numbers.collect::<Vec<u64>>().try_into().ok()
        })
    }

    fn took(&self) -> Duration {
        let times: Vec<u64> = self.acknowledged().map(|[_, _, at]| at).collect();
        Duration::from_micros(times.last().unwrap() - times.first().unwrap())
    }
}

fn start_writer(test: &str, args: &str) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (output, out) = (Output::default(), child.stdout.take().unwrap());
    let lines = output.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            lines.0.lock().unwrap().push(line.unwrap());
        }
        // Whether the child ended well or not, the parent waits no longer.
        let _status = child.wait();
        lines.0.lock().unwrap().push("done".to_owned());
    });
    output
}

/// What the reader has read.
struct Reads {
    /// For each key, each new value and the time when it was read first.
    first: Vec<Vec<(u64, u64)>>,
    near: u64,
    reads: u64,
}

/// Reads all keys until the writer is done, and a little longer. Keys that near does not have are read
/// in one trip.
async fn watch(cache: &Stack, writer: &Output) -> Reads {
    let mut seen = Reads { first: vec![Vec::new(); KEYS as usize], near: 0, reads: 0 };
    let keys: Vec<u64> = (0..KEYS).collect();
    let mut last_round = false;
    loop {
        let over = writer.has("done");
        let values = cache.get_many(&keys).await.into_values().unwrap();
        let now = micros();
        for (first, value) in seen.first.iter_mut().zip(values) {
            let value = value.expect("every key was written");
            let before = first.last().map_or(0, |(value, _)| *value);
            assert!(*value >= before, "{} was read after {before}", *value);
            if *value > before {
                first.push((*value, now));
            }
            seen.reads += 1;
            seen.near += u64::from(value.served().from == Source::Near);
        }
        if last_round {
            return seen;
        }
        // The writer and the server need the cores too.
        sleep(Duration::from_millis(1)).await;
        last_round = over && {
            sleep(Duration::from_millis(200)).await;
            true
        };
    }
}

/// The time from the acknowledgement of a write until it, or a later write of its key, was read.
fn lateness([key, value, at]: [u64; 3], first: &[Vec<(u64, u64)>]) -> u64 {
    let read = first[key as usize].iter().find(|(seen, _)| *seen >= value);
    let (_, seen_at) = read.unwrap_or_else(|| panic!("key {key}: {value} was never read"));
    seen_at.saturating_sub(at)
}
