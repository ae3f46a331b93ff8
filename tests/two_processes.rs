//! Two processes, each with a near tier, over one Redis: what one writes the other reads.
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
use terrace::{Cache, Memory, Redis, Source, TierSettings};
use terrace_testbed::{shared_redis, unique_name};
use tokio::time::{Instant, sleep, sleep_until};

/// Set in the child, which is this test run once more.
const CHILD: &str = "TERRACE_TEST_WRITER";
const KEYS: u64 = 100;
const WRITES: u64 = 3_000;
/// From one write to the next.
const PACE: Duration = Duration::from_millis(1);
const BOUND_MICROS: u64 = 50_000;

fn cache(url: &str, namespace: &str) -> Cache<u64, u64> {
    let redis = Redis::builder(url).allow_plaintext().build().unwrap().budget(PATIENCE);
    Cache::builder(namespace).near(Memory::entries(1_000)).tier(redis).build().unwrap()
}

/// Microseconds on the clock that both processes read.
fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_one_process_is_read_by_the_other_within_50_ms() {
    if let Ok(place) = std::env::var(CHILD) {
        let (url, namespace) = place.split_once(' ').unwrap();
        return write(&cache(url, namespace)).await;
    }
    let url = shared_redis().await.unwrap();
    // What is measured is the slowest of every hundred, and the machine may be busy with other tests.
    for _ in 0..5 {
        if measure(&url).await <= BOUND_MICROS {
            return;
        }
    }
    panic!("p99 was above {BOUND_MICROS} us five times");
}

/// Runs a writer, prints how late its writes were read here, and returns the 99th percentile.
async fn measure(url: &str) -> u64 {
    let namespace = unique_name("processes");
    let cache = cache(url, &namespace);
    let said = start_writer(&format!("{url} {namespace}"));
    let start = Instant::now();
    while !said.has("ready") {
        assert!(start.elapsed() < PATIENCE && !said.has("done"), "the writer did not begin");
        sleep(Duration::from_millis(1)).await;
    }
    let Seen { first, near, reads } = watch(&cache, &said).await;
    let mut late: Vec<u64> = said.acknowledged().map(|write| lateness(write, &first)).collect();
    late.sort_unstable();
    let at = |share: usize| late[(late.len() - 1) * share / 1_000];
    let took = said.took();
    println!(
        "{} writes in {took:?}, read elsewhere after p50 {} us, p99 {} us, p99.9 {} us, at most {} us; \
         {near} of {reads} reads were near hits",
        late.len(),
        at(500),
        at(990),
        at(999),
        at(1_000),
    );
    assert_eq!(late.len() as u64, WRITES);
    assert!(near > reads / 2, "near must serve most reads: {near} of {reads}");
    at(990)
}

/// The child: writes growing values, and says when each was acknowledged.
async fn write(cache: &Cache<u64, u64>) {
    for key in 0..KEYS {
        cache.put(&key, 0).await.unwrap();
    }
    let mut out = std::io::stdout().lock();
    // The test runner has begun a line.
    writeln!(out, "\nready").unwrap();
    let start = Instant::now();
    for value in 1..=WRITES {
        sleep_until(start + PACE * value as u32).await;
        let key = value % KEYS;
        cache.put(&key, value).await.unwrap();
        writeln!(out, "wrote {key} {value} {}", micros()).unwrap();
    }
    writeln!(out, "done").unwrap();
}

/// What the child has said so far.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn has(&self, line: &str) -> bool {
        self.0.lock().unwrap().iter().rev().any(|said| said == line)
    }

    /// Key, value and time of each write.
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

fn start_writer(place: &str) -> Said {
    let test = "a_write_of_one_process_is_read_by_the_other_within_50_ms";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (said, out) = (Said::default(), child.stdout.take().unwrap());
    let hears = said.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            hears.0.lock().unwrap().push(line.unwrap());
        }
        // Whether it ended well or not, the parent waits no longer.
        let _ended = child.wait();
        hears.0.lock().unwrap().push("done".to_owned());
    });
    said
}

struct Seen {
    /// For each key, each new value and when it was read first.
    first: Vec<Vec<(u64, u64)>>,
    near: u64,
    reads: u64,
}

/// Reads all keys, in one trip where near has them not, until the writer is done, and a little longer.
async fn watch(cache: &Cache<u64, u64>, said: &Said) -> Seen {
    let mut seen = Seen { first: vec![Vec::new(); KEYS as usize], near: 0, reads: 0 };
    let keys: Vec<u64> = (0..KEYS).collect();
    let mut last_round = false;
    loop {
        let over = said.has("done");
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
        // The cores are the writer's and the server's too.
        sleep(Duration::from_millis(1)).await;
        last_round = over && {
            sleep(Duration::from_millis(200)).await;
            true
        };
    }
}

/// How long after its acknowledgement a write, or a later one of its key, was read.
fn lateness([key, value, at]: [u64; 3], first: &[Vec<(u64, u64)>]) -> u64 {
    let read = first[key as usize].iter().find(|(seen, _)| *seen >= value);
    let (_, seen_at) = read.unwrap_or_else(|| panic!("key {key}: {value} was never read"));
    seen_at.saturating_sub(at)
}
