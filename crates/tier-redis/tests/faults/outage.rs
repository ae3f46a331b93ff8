//! The server crashes, stops or restarts, or its connections break.

use std::time::Duration;

use terrace_testbed::{Proxy, Redis, Stall};
use terrace_tier::ErrorKind;
use tokio::time::{Instant, sleep};

use crate::bench::{BUDGET, Bench, kind_of, put};

/// The longest time until the tier answers again after the server is back.
const RECOVERY: Duration = Duration::from_millis(1_200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_fails_calls_at_once_and_is_used_again_after_its_restart() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("k", "value").await.unwrap();
    let before = bench.handle.run_id().unwrap();
    server.kill9().unwrap();
    let mut failed = 0;
    for _ in 0..50 {
        let start = Instant::now();
        assert!(bench.get_in_budget("k").await.is_err());
        assert!(bench.put_in_budget("k", "late").await.is_err());
        failed += usize::from(start.elapsed() < Duration::from_millis(10));
    }
    assert!(failed >= 45, "only {failed} of 50 rounds failed at once");
    assert_eq!(kind_of(bench.get("k").await), ErrorKind::Unavailable);
    assert_eq!(bench.handle.run_id(), None);
    server.restart().await.unwrap();
    bench.recovers_within(RECOVERY).await;
    bench.misses("k").await;
    bench.put("k", "again").await.unwrap();
    bench.reads("k", "again").await;
    assert_ne!(bench.handle.run_id().unwrap(), before, "the restarted server has another run id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_handle_connects_again_without_a_call() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.misses("k").await;
    server.restart().await.unwrap();
    let start = Instant::now();
    while bench.handle.run_id().is_none() {
        assert!(start.elapsed() < RECOVERY);
        sleep(Duration::from_millis(5)).await;
    }
    // The first call after that succeeds.
    sleep(Duration::from_millis(50)).await;
    bench.misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_at_start_is_used_when_it_starts() {
    let server = Redis::away().await.unwrap();
    let bench = Bench::new(&server.url());
    for _ in 0..10 {
        assert_eq!(kind_of(bench.get_in_budget("k").await), ErrorKind::Unavailable);
    }
    assert_eq!(kind_of(bench.short_budget.ping().await), ErrorKind::Unavailable);
    assert_eq!(kind_of(bench.tier.ready().await), ErrorKind::Unavailable);
    server.restart().await.unwrap();
    bench.tier.ready().await.unwrap();
    bench.put("k", "value").await.unwrap();
    bench.reads("k", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_holds_no_call_beyond_its_budget() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("k", "value").await.unwrap();
    server.pause().unwrap();
    let (read, write) = tokio::join!(bench.get_in_budget("k"), bench.put_in_budget("k", "late"));
    assert_eq!(kind_of(read), ErrorKind::Timeout);
    assert_eq!(kind_of(write), ErrorKind::Unknown, "the server may still do it after the stop");
    let start = Instant::now();
    let mut timeouts = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let error = bench.get_in_budget("k").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
        timeouts += usize::from(error.kind() == ErrorKind::Timeout);
        sleep(Duration::from_millis(10)).await;
    }
    assert!(timeouts < 20, "{timeouts} calls waited, although the server was known to be stopped");
    // The tier now knows that the server is stopped, and calls no longer wait.
    assert_eq!(kind_of(bench.get("k").await), ErrorKind::Unavailable);
    server.resume().unwrap();
    bench.recovers_within(RECOVERY).await;
    assert!(bench.get("k").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_stop_keeps_the_connection_and_every_caller_its_own_reply() {
    let server = Redis::start().await.unwrap();
    let bench = std::sync::Arc::new(Bench::new(&server.url()));
    for number in 0..100 {
        bench.put(&format!("k{number}"), &format!("v{number}")).await.unwrap();
    }
    for _ in 0..5 {
        server.pause().unwrap();
        let late: Vec<_> = (0..300)
            .map(|number| {
                let bench = bench.clone();
                tokio::spawn(async move { bench.get_in_budget(&format!("k{}", number % 100)).await })
            })
            .collect();
        for call in late {
            assert!(call.await.unwrap().is_err());
        }
        server.resume().unwrap();
        bench.recovers_within(RECOVERY).await;
        for number in 0..100 {
            bench.reads(&format!("k{number}"), &format!("v{number}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_of_cancelled_calls_never_reach_other_callers() {
    let server = Redis::start().await.unwrap();
    let bench = std::sync::Arc::new(Bench::new(&server.url()));
    for number in 0..50 {
        bench.put(&format!("k{number}"), &format!("v{number}")).await.unwrap();
    }
    for round in 0..200u64 {
        let calls: Vec<_> = (0..100)
            .map(|number| {
                let bench = bench.clone();
                tokio::spawn(async move { bench.get(&format!("k{}", number % 50)).await })
            })
            .collect();
        sleep(Duration::from_micros(50 * (round % 20))).await;
        calls.iter().step_by(3).for_each(tokio::task::JoinHandle::abort);
        for (number, call) in calls.into_iter().enumerate() {
            if let Ok(answer) = call.await {
                let expected = format!("v{}", number % 50);
                assert_eq!(crate::bench::body_of(&answer.unwrap()), Some(expected.as_bytes()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_drops_everything_is_noticed_and_its_connection_replaced() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    bench.put("k", "value").await.unwrap();
    let connections = proxy.accepted();
    proxy.stall(Stall::Both);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        assert!(bench.get_in_budget("k").await.is_err());
    }
    proxy.cut().await;
    proxy.resume();
    bench.recovers_within(RECOVERY).await;
    bench.reads("k", "value").await;
    assert!(proxy.accepted() > connections, "the tier replaced the old connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_unknown() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    bench.put("k", "before").await.unwrap();
    proxy.stall(Stall::Replies);
    let batch = vec![(bench.key("a"), put("1")), (bench.key("b"), put("2"))];
    let (single, many) =
        tokio::join!(bench.put_in_budget("k", "value"), bench.short_budget.apply_many(batch));
    assert_eq!(kind_of(single), ErrorKind::Unknown);
    for answer in many {
        assert_eq!(kind_of(answer), ErrorKind::Unknown);
    }
    proxy.resume();
    bench.recovers_within(RECOVERY).await;
    bench.reads("k", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_and_client_kill_are_survived() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    bench.put("k", "value").await.unwrap();
    for _ in 0..5 {
        proxy.cut().await;
        bench.recovers_within(RECOVERY).await;
        bench.reads("k", "value").await;
    }
    let mut raw = crate::bench::raw(&server.url()).await;
    for _ in 0..5 {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        let killed: u32 = kill.query_async(&mut raw).await.unwrap();
        assert!(killed > 0);
        bench.recovers_within(RECOVERY).await;
        bench.reads("k", "value").await;
    }
    proxy.split(Some(1));
    bench.put("k", "byte by byte").await.unwrap();
    bench.reads("k", "byte by byte").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_keeps_its_budget_too() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.misses("k").await;
    server.pause().unwrap();
    let batch = |op: fn() -> terrace_tier::Op| (0..250).map(|n| (bench.key(&n.to_string()), op())).collect();
    let start = Instant::now();
    let answers = bench.short_budget.apply_many(batch(crate::bench::lease)).await;
    assert!(start.elapsed() <= 3 * BUDGET + crate::bench::SLACK, "{:?}", start.elapsed());
    assert!(answers.into_iter().all(|answer| kind_of(answer) == ErrorKind::Timeout));
    server.resume().unwrap();
    bench.recovers_within(RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_cause_few_attempts_to_connect() {
    let server = Redis::start().await.unwrap();
    let away = Redis::away().await.unwrap();
    // One endpoint has no server behind it; the other one has a server that ends each connection at the first write.
    let nothing = Proxy::start(away.port()).unwrap();
    let breaking = Proxy::start(server.port()).unwrap();
    let mut raw = crate::bench::raw(&server.url()).await;
    for proxy in [&nothing, &breaking] {
        let bench = std::sync::Arc::new(Bench::new(&format!("redis://127.0.0.1:{}", proxy.port())));
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let bench = std::sync::Arc::clone(&bench);
                tokio::spawn(async move {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_secs(3) {
                        let _outcome = bench.put_in_budget("k", "value").await;
                        sleep(Duration::from_millis(2)).await;
                    }
                })
            })
            .collect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let mut kill = redis::cmd("CLIENT");
            kill.arg("KILL").arg("TYPE").arg("normal").exec_async(&mut raw).await.unwrap();
            sleep(Duration::from_millis(2)).await;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let opened = proxy.accepted();
        assert!((5..=40).contains(&opened), "{opened} connections in three seconds");
    }
}

#[test]
fn a_handle_outlives_the_runtime_that_used_it_first() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let servers = runtime();
    let server = servers.block_on(Redis::start()).unwrap();
    let bench = Bench::new(&server.url());
    let first = runtime();
    first.block_on(async { bench.put("k", "value").await.unwrap() });
    drop(first);
    let second = runtime();
    second.block_on(async {
        bench.recovers_within(RECOVERY).await;
        bench.reads("k", "value").await;
    });
}
