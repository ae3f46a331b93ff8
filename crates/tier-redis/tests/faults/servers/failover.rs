//! Another server takes the place of the one in use.

use std::time::Duration;

use terrace_testbed::{Proxy, Redis};
use terrace_tier::{ErrorKind, FindingTopic};
use tokio::time::{Instant, sleep};

use super::{Recording, command, demote, fake_server, takes_writes_within};
use crate::{
    bench::{Bench, body_of, raw},
    log::RecordingFollower,
};

/// The longest time until the new server is used.
const TAKEOVER: Duration = Duration::from_secs(2);
/// The longest time for which a demoted server is read.
const DEMOTED: Duration = Duration::from_millis(1_200);

/// Two servers, and an endpoint that leads to the first.
struct Moved {
    old: Redis,
    new: Redis,
    endpoint: Proxy,
    bench: Bench,
}

impl Moved {
    async fn new() -> Self {
        let (old, new) = tokio::try_join!(Redis::start(), Redis::start()).unwrap();
        let endpoint = Proxy::start(old.port()).unwrap();
        let bench = Bench::new(&format!("redis://127.0.0.1:{}", endpoint.port()));
        bench.put("k", "old").await.unwrap();
        Self { old, new, endpoint, bench }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_endpoint_takes_writes_within_two_seconds() {
    let moved = Moved::new().await;
    let told = Recording::on(&moved.bench);
    let old = moved.bench.handle.run_id().unwrap();
    moved.endpoint.lead_to(moved.new.port());
    demote(&moved.old).await;
    let waited = takes_writes_within(&moved.bench, TAKEOVER).await;
    println!("writes are taken after {waited:?}");
    assert_ne!(moved.bench.handle.run_id().unwrap(), old);
    moved.bench.misses("k").await;
    told.is_told(FindingTopic::Role).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_answered_by_a_demoted_server_for_long() {
    let moved = Moved::new().await;
    let there = Bench::open_like(&moved.bench, &moved.new.url());
    there.put("k", "new").await.unwrap();
    moved.endpoint.lead_to(moved.new.port());
    demote(&moved.old).await;
    let start = Instant::now();
    let mut last_old = Duration::ZERO;
    while start.elapsed() < 2 * DEMOTED {
        let sent_at = start.elapsed();
        match moved.bench.get_in_budget("k").await {
            Ok(reply) if body_of(&reply) == Some(b"old") => last_old = sent_at,
            _ => {}
        }
        sleep(Duration::from_millis(5)).await;
    }
    moved.bench.reads("k", "new").await;
    println!("the demoted server was read for {last_old:?}");
    assert!(last_old < DEMOTED, "the demoted server was read for {last_old:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_primary_is_left() {
    let moved = Moved::new().await;
    let mut old = raw(&moved.old.url()).await;
    command(&mut old, &["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    moved.endpoint.lead_to(moved.new.port());
    demote(&moved.old).await;
    takes_writes_within(&moved.bench, TAKEOVER).await;
    // A handle that begins at such a server waits, says why, and goes on when the endpoint has moved.
    moved.endpoint.lead_to(moved.old.port());
    let late = Bench::new(&format!("redis://127.0.0.1:{}", moved.endpoint.port()));
    let error = late.tier.ready().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.finding().unwrap().topic(), FindingTopic::Role);
    moved.endpoint.lead_to(moved.new.port());
    takes_writes_within(&late, TAKEOVER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loads_its_data_is_waited_for_by_name() {
    for answer in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-ERR max number of clients reached\r\n",
    ] {
        let busy = fake_server(move |_| answer.as_bytes().to_vec()).await;
        let endpoint = Proxy::start(busy).unwrap();
        let bench = Bench::new(&format!("redis://127.0.0.1:{}", endpoint.port()));
        let error = bench.tier.ready().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.finding().is_some(), "{error}");
        let server = Redis::start().await.unwrap();
        endpoint.lead_to(server.port());
        takes_writes_within(&bench, TAKEOVER).await;
        bench.tier.ready().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_read_from_the_new_server() {
    let moved = Moved::new().await;
    let follower = RecordingFollower::on(&moved.bench).await;
    moved.endpoint.lead_to(moved.new.port());
    demote(&moved.old).await;
    takes_writes_within(&moved.bench, TAKEOVER).await;
    follower.is_lost().await;
    follower.gets_heartbeat().await;
    Bench::open_like(&moved.bench, &moved.new.url()).put("there", "new").await.unwrap();
    follower.is_notified_of("there").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_role_the_role_is_known_by_info_and_without_both_by_answers() {
    for refused in ["-role", "-role -info"] {
        let moved = Moved::new().await;
        for server in [&moved.old, &moved.new] {
            let mut words = vec!["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all"];
            words.extend(refused.split(' '));
            command(&mut raw(&server.url()).await, &words).await;
        }
        let url = format!("redis://app:pw@127.0.0.1:{}", moved.endpoint.port());
        moved.endpoint.lead_to(moved.old.port());
        let bench = Bench::new(&url);
        let findings = bench.tier.ready().await.unwrap();
        assert_eq!(findings.len(), refused.split(' ').count(), "{findings:?}");
        assert!(findings.iter().all(|finding| finding.topic() == FindingTopic::Permission));
        demote(&moved.old).await;
        let opened = moved.endpoint.accepted();
        let start = Instant::now();
        let mut attempts = 0;
        while start.elapsed() < Duration::from_secs(2) {
            bench.put_in_budget("k", "late").await.unwrap_err();
            attempts += 1;
            sleep(Duration::from_millis(2)).await;
        }
        let opened = moved.endpoint.accepted() - opened;
        assert!(opened <= 20, "{opened} connections for {attempts} refused writes");
        moved.endpoint.lead_to(moved.new.port());
        takes_writes_within(&bench, TAKEOVER).await;
    }
}
