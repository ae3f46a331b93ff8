//! Write-behind over a real Postgres: processes that are killed, a server that is away, and the end of a process.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    collections::HashMap,
    env,
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use terrace::{
    Cache, NoNear, Postgres, TierSettings, WriteBehind,
    write_behind::{Backlog, WhenFull},
};
use terrace_testbed::{self as testbed, shared_postgres, unique_name};
use tokio::io::{AsyncBufReadExt, BufReader};

type Stack = Cache<u64, u64, NoNear>;

/// Keys of the process that is killed. Each of its tasks has some of them to itself.
const KEYS: u64 = 400;
const TASKS: u64 = 20;
const KILLED: &str = "TERRACE_TEST_KILLED";

fn stack(url: &str, namespace: &str, write: WriteBehind) -> terrace::Result<Stack> {
    let store = Postgres::new(url)?.budget(Duration::from_secs(5));
    Cache::builder(namespace).store(store).write(write).build()
}

fn in_file(directory: &Path) -> WriteBehind {
    let cap = Backlog::bytes(256 << 20).when_full(WhenFull::Block);
    WriteBehind::file(directory).delay(Duration::from_millis(20)).cap(cap)
}

/// The process that is killed: it says what it tries and what was acknowledged, until it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that `what_was_acknowledged_survives_kill_9` starts"]
async fn the_process_that_is_killed() {
    let Ok(arguments) = env::var(KILLED) else { return };
    let arguments: Vec<&str> = arguments.split('|').collect();
    let [directory, url, namespace, first] = arguments[..] else { panic!("four arguments") };
    let cache = stack(url, namespace, in_file(Path::new(directory))).unwrap();
    cache.ready().await.unwrap();
    let first: u64 = first.parse().unwrap();
    let tasks = (0..TASKS).map(|task| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let mut random = fastrand_like(first ^ task);
            for number in first.. {
                let key = task + TASKS * (random() % (KEYS / TASKS));
                let removes = random().is_multiple_of(5);
                let what = if removes { "removal" } else { "put" };
                say(&format!("try {key} {number} {what}"));
                let done = match removes {
                    true => cache.remove(&key).await.map(drop),
                    false => cache.put(&key, number).await.map(drop),
                };
                done.unwrap();
                say(&format!("ack {key} {number} {what}"));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// One line, in one write.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// A small generator (xorshift), so that each process has writes of its own.
fn fastrand_like(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// What the killed processes said of one key.
#[derive(Default)]
struct Said {
    /// The last acknowledged write, and whether it is a removal.
    acknowledged: Option<(u64, bool)>,
    /// The writes that were tried: number, and whether it is a removal.
    tried: Vec<(u64, bool)>,
}

impl Said {
    /// Why the key cannot have `found`, if it cannot.
    fn refutes(&self, found: Option<u64>) -> Option<String> {
        let (last, is_removal) = self.acknowledged?;
        let later = |removal: bool, number: Option<u64>| {
            self.tried.iter().any(|(tried, is_removal)| {
                *tried > last && *is_removal == removal && number.is_none_or(|number| number == *tried)
            })
        };
        let fits = match found {
            Some(number) if is_removal => later(false, Some(number)),
            Some(number) => number == last || later(false, Some(number)),
            None => is_removal || later(true, None),
        };
        (!fits).then(|| format!("found {found:?}, acknowledged {last} (removal: {is_removal})"))
    }
}

/// Starts the process, reads what it says, and kills it after so many acknowledgements.
async fn run_and_kill(arguments: String, kill_after: u64, said: &mut HashMap<u64, Said>) -> u64 {
    let mut process = tokio::process::Command::new(env::current_exe().unwrap())
        .args(["the_process_that_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(KILLED, arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut acknowledged = 0;
    // The pipe ends once the process is dead and all that it said is read.
    while let Some(line) = lines.next_line().await.unwrap() {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind @ ("try" | "ack"), key, number, what] = words[..] else { continue };
        let (Ok(key), Ok(number)) = (key.parse(), number.parse()) else { continue };
        let said: &mut Said = said.entry(key).or_default();
        let is_removal = what == "removal";
        if kind == "try" {
            said.tried.push((number, is_removal));
            continue;
        }
        said.acknowledged = said.acknowledged.max(Some((number, is_removal)));
        acknowledged += 1;
        if acknowledged == kill_after {
            // SIGKILL, while the other tasks write and the flusher flushes.
            process.start_kill().unwrap();
        }
    }
    process.wait().await.unwrap();
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let kills: u64 = env::var("TERRACE_TEST_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let (url, namespace) = (shared_postgres().await.unwrap(), unique_name("killed"));
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    let (mut said, mut acknowledged) = (HashMap::new(), 0);
    for round in 0..kills {
        let first = 1 + round * 1_000_000;
        let arguments = format!("{}|{url}|{namespace}|{first}", directory.display());
        acknowledged += run_and_kill(arguments, 300 + round * 37 % 400, &mut said).await;
    }
    let cache = stack(&url, &namespace, in_file(&directory)).unwrap();
    cache.ready().await.unwrap();
    let check = async |cache: &Stack| {
        for (key, said) in &said {
            let found = cache.get(key).await.unwrap().map(|value| *value);
            assert!(said.refutes(found).is_none(), "key {key}: {}", said.refutes(found).unwrap_or_default());
        }
    };
    let restored = cache.backlog().keys;
    check(&cache).await;
    cache.flush().await.unwrap();
    assert_eq!(cache.close_within(Duration::from_secs(30)).await.keys, 0);
    let reader: Stack = Cache::builder(&namespace).store(Postgres::new(&url).unwrap()).build().unwrap();
    check(&reader).await;
    println!(
        "{kills} kills, {acknowledged} acknowledged writes, {restored} keys restored at the end, 0 lost"
    );
    assert!(acknowledged >= kills * 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_of_a_journal_are_fenced() {
    let (url, namespace) = (shared_postgres().await.unwrap(), unique_name("cloned"));
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("journal");
    let cache = stack(&url, &namespace, in_file(&directory)).unwrap();
    for key in 0..100 {
        cache.put(&key, 1).await.unwrap();
    }
    let mut clones = Vec::new();
    for number in 0..20 {
        let copy = folder.path().join(format!("clone {number}"));
        std::fs::create_dir(&copy).unwrap();
        cache.put(&number, 2 + number).await.unwrap();
        for file in std::fs::read_dir(&directory).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        clones.push(copy);
    }
    // The owner starts again, which none of the clones knows of.
    drop(cache);
    let mut again = None;
    support::eventually("the directory is free", async || {
        again = stack(&url, &namespace, in_file(&directory)).ok();
        again.is_some()
    })
    .await;
    let cache = again.unwrap();
    cache.put(&0, 1_000).await.unwrap();
    cache.flush().await.unwrap();
    for clone in &clones {
        let clone = stack(&url, &namespace, in_file(clone)).unwrap();
        let kind = clone.put(&1, 9).await.unwrap_err().kind();
        let is_fenced = match clone.backlog().keys {
            0 => kind == terrace::ErrorKind::NamespaceInUse,
            _ => kind == terrace::ErrorKind::FrontLost && clone.backlog().dead == clone.backlog().keys,
        };
        assert!(is_fenced, "{kind:?} with {:?}", clone.backlog());
        assert_eq!(*clone.get(&0).await.unwrap().unwrap(), 1_000);
    }
    for key in 1..100 {
        let expected = if key < 20 { 2 + key } else { 1 };
        assert_eq!(*cache.get(&key).await.unwrap().unwrap(), expected, "{key}");
    }
}

/// The time below which 99 of 100 measured times lie.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Puts of 50 callers for some time: the acknowledged value of each key, and how long the puts took.
async fn puts_for(cache: &Stack, time: Duration, from: u64) -> (HashMap<u64, u64>, Vec<Duration>) {
    let until = Instant::now() + time;
    let callers = (0..50).map(|caller| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let (mut last, mut times, mut number) = (HashMap::new(), Vec::new(), from);
            while Instant::now() < until {
                let key = caller + 50 * (number % 40);
                let began = Instant::now();
                cache.put(&key, number).await.unwrap();
                times.push(began.elapsed());
                last.insert(key, number);
                number += 1;
            }
            (last, times)
        })
    });
    let (mut last, mut times) = (HashMap::new(), Vec::new());
    for caller in callers.collect::<Vec<_>>() {
        let (its, took) = caller.await.unwrap();
        last.extend(its);
        times.extend(took);
    }
    (last, times)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_and_away_loses_no_acknowledged_put() {
    let away: u64 = env::var("TERRACE_TEST_AWAY_SECS").map_or(5, |secs| secs.parse().unwrap());
    let postgres = testbed::Postgres::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = in_file(&folder.path().join("journal"));
    let namespace = unique_name("away");
    let cache = stack(&postgres.url(), &namespace, write).unwrap();
    cache.ready().await.unwrap();
    let (mut last, mut before) = puts_for(&cache, Duration::from_secs(2), 1).await;
    postgres.kill9().unwrap();
    let (during, mut while_away) = puts_for(&cache, Duration::from_secs(away), 1_000_000_000).await;
    last.extend(during);
    let dirty = cache.backlog().keys;
    postgres.restart().await.unwrap();
    let began = Instant::now();
    tokio::time::timeout(Duration::from_secs(60), cache.flush()).await.unwrap().unwrap();
    let drained = began.elapsed();
    let reader: Stack =
        Cache::builder(&namespace).store(Postgres::new(&postgres.url()).unwrap()).build().unwrap();
    for (key, number) in &last {
        assert_eq!(*reader.get(key).await.unwrap().unwrap(), *number, "{key}");
    }
    println!(
        "away {away} s: {} puts before, p99 {:?}; {} puts while away, p99 {:?}; {dirty} keys dirty, drained in {drained:?}",
        before.len(),
        p99(&mut before),
        while_away.len(),
        p99(&mut while_away),
    );
    assert!(dirty > 0 && drained < Duration::from_secs(35), "{drained:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_drains_50_000_dirty_keys_within_30_seconds() {
    let (url, namespace) = (shared_postgres().await.unwrap(), unique_name("drained"));
    let write = WriteBehind::memory().delay(Duration::from_secs(60)).batch(100_000);
    let cache = stack(&url, &namespace, write).unwrap();
    for put in cache.put_many((0..50_000).map(|key| (key, key + 1))).await {
        put.unwrap();
    }
    assert_eq!(cache.backlog().keys, 50_000);
    let began = Instant::now();
    let left = cache.close_within(Duration::from_secs(30)).await;
    println!("50,000 dirty keys drained in {:?}", began.elapsed());
    assert_eq!((left.keys, left.bytes), (0, 0));
    let reader: Stack = Cache::builder(&namespace).store(Postgres::new(&url).unwrap()).build().unwrap();
    for key in [0, 1, 25_000, 49_999] {
        assert_eq!(*reader.get(&key).await.unwrap().unwrap(), key + 1);
    }
}
