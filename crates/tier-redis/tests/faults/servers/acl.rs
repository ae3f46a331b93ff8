//! Users with few permissions.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use terrace_testbed::{Proxy, Redis};
use terrace_tier::{ErrorKind, FindingTopic, LeaseWaiter, Reply, Token};
use tokio::time::{Instant, sleep};

use super::{Recording, command, lasting};
use crate::{
    bench::{Bench, lease_by, put, raw},
    log::RecordingFollower,
};

/// The permissions that the guide lists.
pub(crate) fn minimal() -> Vec<&'static str> {
    let guide = include_str!("../../../../../docs/redis.md");
    let line = guide.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap();
    // `ACL SETUSER terrace on >password`, then the permissions.
    line.split_whitespace().skip(5).collect()
}

async fn user(raw: &mut MultiplexedConnection, name: &str, permissions: &[&str]) {
    let words: Vec<_> =
        ["ACL", "SETUSER", name, "reset", "on", ">pw"].iter().chain(permissions).copied().collect();
    command(raw, &words).await;
}

fn bench_of(server: &Redis, user: &str) -> Bench {
    Bench::new(&format!("redis://{user}:pw@127.0.0.1:{}", server.port()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_of_the_guide_are_enough_and_each_is_needed() {
    let server = Redis::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    let minimal = minimal();
    user(&mut raw, "app", &minimal).await;
    assert_eq!(bench_of(&server, "app").tier.ready().await.unwrap(), []);
    let commands: Vec<&str> = minimal.iter().filter(|word| word.starts_with('+')).copied().collect();
    assert!(commands.len() > 25, "{commands:?}");
    for taken in commands {
        let rest: Vec<&str> = minimal.iter().filter(|word| **word != taken).copied().collect();
        user(&mut raw, "less", &rest).await;
        let bench = bench_of(&server, "less");
        let outcome = bench.tier.ready().await;
        let name = taken.trim_start_matches('+').to_uppercase();
        if matches!(name.as_str(), "HELLO" | "AUTH" | "PING") {
            continue;
        }
        let named = match &outcome {
            Ok(findings) => findings.iter().any(|finding| finding.cause().to_uppercase().contains(&name)),
            Err(error) => {
                lasting(error, FindingTopic::Permission);
                error.to_string().to_uppercase().contains(&name)
            }
        };
        assert!(named, "without {taken}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_channels_of_others_are_found() {
    let server = Redis::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    let all = minimal();
    let without =
        |prefix: char| all.iter().filter(|word| !word.starts_with(prefix)).copied().collect::<Vec<_>>();
    user(&mut raw, "app", &[without('~'), vec!["~other:*"]].concat()).await;
    let error = bench_of(&server, "app").tier.ready().await.unwrap_err();
    lasting(&error, FindingTopic::Permission);
    user(&mut raw, "app", &without('&')).await;
    let findings = bench_of(&server, "app").tier.ready().await.unwrap();
    assert_eq!(findings.iter().map(|finding| finding.topic()).collect::<Vec<_>>(), [FindingTopic::Leases]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_need_no_script_load() {
    let server = Redis::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    user(&mut raw, "app", &["~*", "&*", "+@all", "-script"]).await;
    let bench = bench_of(&server, "app");
    let batch = |count: usize| (0..count).map(|n| (bench.key(&n.to_string()), put("many"))).collect();
    command(&mut raw, &["SCRIPT", "FLUSH"]).await;
    for answer in bench.tier.apply_many(batch(1_000)).await {
        assert!(matches!(answer.unwrap(), Reply::Kept(_)));
    }
    // Without EVAL a batch works while the server knows the script, and else says what is missing.
    user(&mut raw, "app", &["~*", "&*", "+@all", "-eval"]).await;
    assert!(bench.tier.apply_many(batch(10)).await.iter().all(Result::is_ok));
    command(&mut raw, &["SCRIPT", "FLUSH"]).await;
    let answers = bench.tier.apply_many(batch(10)).await;
    let error = answers[0].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("NOPERM") && error.to_string().contains("eval"), "{error}");
    assert!(answers.iter().all(Result::is_err));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_and_channels_that_may_not_be_read_are_told_and_cause_no_storm() {
    let server = Redis::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    user(&mut raw, "app", &["~*", "resetchannels", "+@all", "-xread"]).await;
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://app:pw@127.0.0.1:{}", proxy.port()));
    let topics: Vec<_> = bench.tier.ready().await.unwrap().iter().map(|finding| finding.topic()).collect();
    assert_eq!(topics, [FindingTopic::Log, FindingTopic::Leases]);
    let told = Recording::on(&bench);
    let follower = std::sync::Arc::new(RecordingFollower::default());
    let shared: std::sync::Arc<dyn terrace_tier::Follower> = std::sync::Arc::clone(&follower) as _;
    bench.tier.log().unwrap().follow(&bench.namespace.name, std::sync::Arc::downgrade(&shared));
    let token = Token::random();
    bench.tier.apply(&bench.key("leased"), lease_by(token)).await.unwrap();
    let waiter: &dyn LeaseWaiter = bench.tier.lease_waiter().unwrap();
    let _held = waiter.hold(&bench.key("leased"), token);
    let other = bench.other_process();
    let told_there = Recording::on(&other);
    let end = other.tier.lease_waiter().unwrap().wait(&other.key("leased"), token);
    let waiting = tokio::spawn(end);
    let finding = told.is_told(FindingTopic::Log).await;
    assert!(finding.cause().contains("xread"), "{}", finding.cause());
    told_there.is_told(FindingTopic::Leases).await;
    let (opened, start) = (proxy.accepted(), Instant::now());
    while start.elapsed() < Duration::from_secs(3) {
        bench.misses("k").await;
        sleep(Duration::from_millis(20)).await;
    }
    let opened = proxy.accepted() - opened;
    assert!(opened <= 2, "{opened} connections in three seconds");
    waiting.abort();
}
