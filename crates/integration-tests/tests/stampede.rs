//! Many processes read one cold key on real servers. They run one load, and a second one if the process
//! of the first is killed. `cargo test --test stampede -- --nocapture` prints the figures.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    process::{Command as Program, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use terrace::{Cache, Lease, Level, Postgres, Redis, Result, TierSettings};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

const PROCESSES: usize = 4;
const CALLERS: usize = 250;
const LOAD: Duration = Duration::from_secs(1);
/// The longest time until the other processes notice the death of a process.
const DEATH: Duration = Duration::from_secs(2);
const ALLOWANCE: Duration = Duration::from_millis(50);

/// Set in a child process: kind and URL of the server, and the name of the namespace, for all children.
const SHARED: &str = "TERRACE_TEST_STAMPEDE";

#[tokio::test]
async fn processes_that_share_redis_load_a_cold_key_once() {
    let shared = format!("redis {} {}", shared_redis().await.unwrap(), unique_name("stampede"));
    stampede(&shared, false).await;
}

#[tokio::test]
async fn processes_that_share_redis_at_level_ttl_load_a_cold_key_once() {
    let shared = format!("redis-ttl {} {}", shared_redis().await.unwrap(), unique_name("stampede"));
    stampede(&shared, false).await;
}

#[tokio::test]
async fn of_processes_that_share_redis_one_takes_the_place_of_a_killed_one() {
    let shared = format!("redis {} {}", shared_redis().await.unwrap(), unique_name("stampede"));
    stampede(&shared, true).await;
}

#[tokio::test]
async fn processes_that_share_postgres_load_a_cold_key_once() {
    let shared = format!("postgres {} {}", shared_postgres().await.unwrap(), unique_name("stampede"));
    stampede(&shared, false).await;
}

#[tokio::test]
async fn of_processes_that_share_postgres_one_takes_the_place_of_a_killed_one() {
    let shared = format!("postgres {} {}", shared_postgres().await.unwrap(), unique_name("stampede"));
    stampede(&shared, true).await;
}

/// What a child process reports.
#[derive(Debug)]
enum Report {
    /// It runs the loader.
    Loads,
    /// All its callers have their answer; the longest wait of any of them.
    Answered(Duration),
}

async fn stampede(shared: &str, kills: bool) {
    let (sender, mut reports) = mpsc::unbounded_channel();
    let mut processes = Vec::new();
    for number in 0..PROCESSES {
        let (process, lines) = start(shared).await;
        let sender = sender.clone();
        tokio::spawn(async move { forward(number, lines, &sender).await });
        processes.push(process);
    }
    drop(sender);
    for process in &mut processes {
        process.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    }
    let (mut loads, mut longest, mut answered) = (0, Duration::ZERO, 0);
    while let Some((number, report)) = timeout(Duration::from_secs(60), reports.recv()).await.unwrap() {
        match report {
            Report::Loads => {
                loads += 1;
                if kills && loads == 1 {
                    sleep(LOAD / 2).await;
                    processes[number].kill().await.unwrap();
                }
            }
            Report::Answered(waited) => (longest, answered) = (longest.max(waited), answered + 1),
        }
    }
    let bound = if kills { DEATH + LOAD + ALLOWANCE } else { LOAD + ALLOWANCE * 10 };
    let kind = shared.split(' ').next().unwrap();
    println!(
        "{kind}: {PROCESSES} processes x {CALLERS} callers, a load of {LOAD:?}{}: {loads} loads, \
         the longest wait {longest:.3?} (at most {bound:?})",
        if kills { ", its process killed halfway" } else { "" },
    );
    assert_eq!(answered, if kills { PROCESSES - 1 } else { PROCESSES });
    assert_eq!(loads, if kills { 2 } else { 1 });
    assert!(longest <= bound, "{longest:?}");
}

/// Starts a child process, and waits until it is ready for the word to begin.
async fn start(shared: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut program = Program::new(std::env::current_exe().unwrap());
    program.args(["--exact", "one_of_the_processes", "--nocapture"]).env(SHARED, shared);
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Command::from(program).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.ends_with("is ready") {
                return true;
            }
        }
        false
    };
    assert!(timeout(Duration::from_secs(60), ready).await.unwrap());
    (process, lines)
}

/// Sends what a child process prints to `sender`, as reports.
async fn forward(
    number: usize,
    mut lines: Lines<BufReader<ChildStdout>>,
    sender: &mpsc::UnboundedSender<(usize, Report)>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        let report = match line.split(' ').collect::<Vec<_>>()[..] {
            ["loads"] => Report::Loads,
            ["answered", micros] => Report::Answered(Duration::from_micros(micros.parse().unwrap())),
            _ => continue,
        };
        sender.send((number, report)).unwrap();
    }
}

/// The child process that [`start`] starts. Run as an ordinary test, it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_the_processes() {
    let Ok(shared) = std::env::var(SHARED) else { return };
    let cache = Arc::new(open(&shared).unwrap());
    cache.ready().await.unwrap();
    println!("\nis ready");
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let cache = Arc::clone(&cache);
        callers.spawn(async move {
            let began = Instant::now();
            let value = cache.get_or_load("cold", || async {
                println!("loads");
                sleep(LOAD).await;
                Ok::<_, std::io::Error>("loaded".to_owned())
            });
            assert_eq!(*value.await.unwrap(), "loaded");
            began.elapsed()
        });
    }
    let longest = callers.join_all().await.into_iter().max().unwrap();
    println!("answered {}", longest.as_micros());
    // The callers have their answer, but the other processes wait for the fill.
    cache.settled().await;
}

fn open(shared: &str) -> Result<Cache<String, String>> {
    let [kind, url, name] = shared.split(' ').collect::<Vec<_>>()[..] else { unreachable!() };
    let budget = Duration::from_secs(2);
    let builder = Cache::builder(name).stampede(Lease);
    let builder = if kind == "redis-ttl" { builder.level(Level::Ttl) } else { builder };
    let builder = match kind {
        "redis" | "redis-ttl" => builder.tier(Redis::builder(url).allow_plaintext().build()?.budget(budget)),
        _ => builder.tier(Postgres::new(url)?.budget(budget)),
    };
    builder.build()
}
