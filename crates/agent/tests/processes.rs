//! Several processes over one Redis: shared calls of upstream, and counters.
#![cfg(all(unix, feature = "llm", feature = "redis"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use futures_util::future::join_all;
use support::{Upstream, cache, request};
use terrace::config::{Config, Stack};
use terrace_agent::{LlmCache, LlmSettings, llm::Outcome};
use terrace_testbed::Redis;

/// Set in a child process, which runs the same test.
const CHILD: &str = "TERRACE_TEST_LLM_CHILD";
const PROCESSES: usize = 4;
/// Without optimisation a process needs half a minute for as many.
const HITS: usize = if cfg!(debug_assertions) { 1_000 } else { 25_000 };

fn stack(url: &str) -> Stack {
    let toml = format!("[memory]\n[redis]\nurl = \"{url}\"\nallow_plaintext = true\nbudget_ms = 5000");
    Stack::new(&Config::from_toml(&toml).unwrap()).unwrap()
}

fn start_children(test: &str, url: &str) -> Vec<Child> {
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env(CHILD, url).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    (0..PROCESSES).map(|_| child()).collect()
}

/// What each child printed.
async fn outputs(children: Vec<Child>) -> Vec<String> {
    let wait = |child: Child| tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let ended = join_all(children.into_iter().map(wait)).await;
    let ended: Vec<_> = ended.into_iter().map(Result::unwrap).collect();
    assert!(ended.iter().all(|output| output.status.success()));
    ended.into_iter().map(|output| String::from_utf8(output.stdout).unwrap()).collect()
}

/// The additions that the server has made. Only the counters use this command: one for each name of a request.
async fn counting_requests(server: &Redis) -> u64 {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let calls = |command: &str| {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        let calls = line.and_then(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok());
        calls.unwrap_or(0)
    };
    println!("evalsha {}, eval {}, hincrby {}", calls("evalsha"), calls("eval"), calls("hincrby"));
    calls("hincrby")
}

/// Each process has its counters in memory alone but for one request a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_of_four_processes_are_exact_two_seconds_after_the_last_hit() {
    if let Ok(url) = std::env::var(CHILD) {
        let (cache, upstream) = (cache(&stack(&url)), Upstream::new());
        cache.ready().await.unwrap();
        let began = std::time::Instant::now();
        for _ in 0..HITS {
            let reply = cache.call(&request("count"), upstream.ask()).await.unwrap();
            assert_eq!(reply.outcome(), Outcome::Hit);
        }
        println!("took {}", began.elapsed().as_millis());
        tokio::time::sleep(Duration::from_secs(2)).await;
        return;
    }
    let server = Redis::start().await.unwrap();
    let (cache, upstream) = (cache(&stack(&server.url())), Upstream::new());
    cache.ready().await.unwrap();
    cache.call(&request("count"), upstream.ask()).await.unwrap().bytes().await.unwrap();
    let test = "counters_of_four_processes_are_exact_two_seconds_after_the_last_hit";
    let before = counting_requests(&server).await;
    let began = std::time::Instant::now();
    let printed = outputs(start_children(test, &server.url())).await;
    let seconds = began.elapsed().as_secs() + 1;
    let requests = counting_requests(&server).await - before;
    let savings = cache.savings().await.unwrap();
    println!("{printed:?}: {savings:?}");
    assert_eq!(savings[0].hits, (PROCESSES * HITS) as u64);
    assert_eq!(savings[0].avoided.input, 10 * savings[0].hits);
    // A hit changes three sums: hits, and tokens in and out. The parent sends its own too.
    let limit = 3 * (PROCESSES as u64 + 1) * (seconds + 1);
    println!("{requests} additions in {seconds} s of {PROCESSES} processes, at most {limit}");
    assert!(requests <= limit, "{requests} additions, at most {limit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_make_one_call_of_upstream() {
    let mut upstream = Upstream::new();
    upstream.pause = Duration::from_millis(150);
    if let Ok(url) = std::env::var(CHILD) {
        // However busy the machine is, no process asks for itself.
        let settings = LlmSettings { patience: Duration::from_secs(60), ..LlmSettings::default() };
        let cache = LlmCache::new(&stack(&url), settings).unwrap();
        cache.ready().await.unwrap();
        let calls = (0..10).map(|_| async {
            let reply = cache.call(&request("share"), upstream.ask()).await.unwrap();
            assert_eq!(reply.bytes().await.unwrap(), upstream.whole());
        });
        join_all(calls).await;
        println!("calls {}.", upstream.calls.load(Ordering::SeqCst));
        cache.close().await.unwrap();
        return;
    }
    let server = Redis::start().await.unwrap();
    let printed = outputs(start_children("four_processes_make_one_call_of_upstream", &server.url())).await;
    let calls: usize = printed.iter().map(|text| usize::from(text.contains("calls 1."))).sum();
    assert_eq!(calls, 1, "{printed:?}");
    assert_eq!(printed.iter().filter(|text| text.contains("calls 0.")).count(), PROCESSES - 1, "{printed:?}");
}

/// The holder of the call may be far from its end: another process asks for itself, for the sake of the first event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_patience_ends_asks_upstream_itself() {
    let server = Redis::start().await.unwrap();
    let mut upstream = Upstream::new();
    upstream.pause = Duration::from_millis(400);
    let settings = LlmSettings { patience: Duration::from_millis(500), ..LlmSettings::default() };
    let process = || LlmCache::new(&stack(&server.url()), settings.clone()).unwrap();
    let (one, two) = (process(), process());
    one.ready().await.unwrap();
    two.ready().await.unwrap();
    let first = one.call(&request("wait"), upstream.ask()).await.unwrap();
    let began = std::time::Instant::now();
    let second = two.call(&request("wait"), upstream.ask()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400), "it waited for the other first");
    assert_eq!(upstream.calls(), 2);
    assert_eq!(second.bytes().await.unwrap(), upstream.whole());
    assert_eq!(first.bytes().await.unwrap(), upstream.whole());
    let third = two.call(&request("wait"), upstream.ask()).await.unwrap();
    assert_eq!((third.outcome(), upstream.calls()), (Outcome::Hit, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_model_is_asked_anew_by_all_processes() {
    let server = Redis::start().await.unwrap();
    let upstream = Upstream::new();
    let (one, two) = (cache(&stack(&server.url())), cache(&stack(&server.url())));
    for cache in [&one, &two] {
        cache.ready().await.unwrap();
        cache.call(&request("retire"), upstream.ask()).await.unwrap().bytes().await.unwrap();
    }
    assert_eq!(upstream.calls(), 1);
    // The other process has counted the model, and this one reads the sums of all.
    two.savings().await.unwrap();
    assert_eq!(one.retire("*").await.unwrap(), ["m"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    for cache in [&two, &one] {
        cache.call(&request("retire"), upstream.ask()).await.unwrap().bytes().await.unwrap();
    }
    assert_eq!(upstream.calls(), 2);
}
