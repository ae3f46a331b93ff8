//! Failover: sessions are kept only at a primary, and after lost rows all copies are cleared.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::postgres::PgPoolOptions;
use support::{connect, follower::RecordingFollower, key, namespace, open, put};
use terrace_testbed::{Postgres as Server, Proxy};
use terrace_tier::{Backend, ErrorKind, FindingTopic, Notice, Op, Reply, Role, Tier};
use terrace_tier_postgres::Postgres;

/// What a failover may cost.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// The URL of the tests' role that names these ports in this order.
fn url_of(ports: &[u16]) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("postgres://terrace_test_app@{}/terrace_test_app", hosts.join(","))
}

/// Puts until one is taken, and gives the time that passed.
async fn until_writable(tier: &Arc<dyn Tier>) -> Duration {
    let start = Instant::now();
    loop {
        match tier.apply(&key(9), put("new")).await {
            Ok(Reply::Kept(_)) => {
                println!("writes are back after {:.0?}", start.elapsed());
                return start.elapsed();
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_moved_endpoint_sessions_leave_the_old_server_that_takes_no_writes() {
    let old = Server::start().await.expect("a server");
    let proxy = Proxy::start(old.port()).expect("a proxy");
    let tier = open(&url_of(&[proxy.port()]), Role::Store);
    tier.apply(&key(1), put("v")).await.expect("a record");
    let new = old.start_standby().await.expect("a standby");
    old.wait_for(&new).await.expect("a copy");
    // The old server goes on serving its open sessions.
    old.read_only(true).await.expect("read-only");
    new.promote().await.expect("promoted");
    proxy.lead_to(new.port());
    let back = until_writable(&tier).await;
    assert!(back < BACK_WITHIN, "{back:?}");
    let hit = tier.apply(&key(9), Op::Get).await;
    assert!(matches!(hit, Ok(Reply::Hit(_))), "reads come from the new server: {hit:?}");
}

/// A write through the session at the new server may be acknowledged, and the old server does not have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_one_session_has_reached_another_server_none_reads_from_the_old_one() {
    let (old, new) = (Server::start().await.expect("a server"), Server::start().await.expect("a server"));
    open(&new.url(), Role::Store).apply(&key(1), put("new")).await.expect("a record");
    let proxy = Proxy::start(old.port()).expect("a proxy");
    let tier = open(&url_of(&[proxy.port()]), Role::Store);
    tier.apply(&key(1), put("old")).await.expect("a record");
    let one = key(1);
    // The number of reads at once that the old server answered.
    let burst = async |reads: usize| {
        let replies = futures_util::future::join_all((0..reads).map(|_| tier.apply(&one, Op::Get))).await;
        let body = |reply| match reply {
            Ok(Reply::Hit(found)) => found.body,
            other => panic!("a record is there: {other:?}"),
        };
        replies.into_iter().map(body).filter(|body| body.as_deref() == Some(b"old")).count()
    };
    assert_eq!(burst(4).await, 4);
    proxy.lead_to(new.port());
    // Reads and writes at once need more sessions than reads alone have: some connect to the new server.
    let mut rounds = 0;
    loop {
        let others: Vec<_> = (100..164).map(key).collect();
        let puts = futures_util::future::join_all(others.iter().map(|key| tier.apply(key, put("v"))));
        let (answered_by_old, _written) = tokio::join!(burst(64), puts);
        rounds += 1;
        assert!(rounds < 100, "no session reaches the new server");
        if answered_by_old < 64 {
            break;
        }
    }
    for _ in 0..20 {
        assert_eq!(burst(8).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_write_the_log_and_the_reads_leave_a_server_that_takes_no_writes() {
    let old = Server::start().await.expect("a server");
    let proxy = Proxy::start(old.port()).expect("a proxy");
    let handle = Postgres::new(&url_of(&[proxy.port()])).expect("a handle");
    let follower = RecordingFollower::new();
    handle.log().expect("a log").follow("users", follower.weak());
    follower.caught_up().await;
    let tier = handle.open(&namespace(Role::Store)).expect("a tier");
    tier.apply(&key(1), put("old")).await.expect("a record");
    let new = old.start_standby().await.expect("a standby");
    old.wait_for(&new).await.expect("a copy");
    old.read_only(true).await.expect("read-only");
    new.promote().await.expect("promoted");
    open(&new.url(), Role::Store).apply(&key(2), put("new")).await.expect("a record of the new primary");
    follower.take();
    proxy.lead_to(new.port());
    let start = Instant::now();
    while !matches!(tier.apply(&key(2), Op::Get).await, Ok(Reply::Hit(_))) {
        assert!(start.elapsed() < BACK_WITHIN, "reads still come from the old server");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    follower.until(|follower| follower.take().contains(&Notice::Lost)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_among_the_hosts_is_found_and_all_copies_are_cleared() {
    let primary = Server::start().await.expect("a server");
    let standby = primary.start_standby().await.expect("a standby");
    let handle = Postgres::new(&url_of(&[primary.port(), standby.port()])).expect("a handle");
    let follower = RecordingFollower::new();
    handle.log().expect("a log").follow("users", follower.weak());
    follower.caught_up().await;
    let tier = handle.open(&namespace(Role::Store)).expect("a tier");
    tier.apply(&key(1), put("v")).await.expect("a record");
    primary.wait_for(&standby).await.expect("replayed");
    follower.caught_up().await;
    follower.take();
    // Replication stops, so these rows are lost.
    let mut operator = connect(&standby.superuser_url()).await;
    sqlx::raw_sql("ALTER SYSTEM SET primary_conninfo = ''").execute(&mut operator).await.expect("set");
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut operator).await.expect("read");
    let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
    let reloaded = Instant::now();
    while sqlx::query_scalar::<_, i64>(receivers).fetch_one(&mut operator).await.expect("a row") > 0 {
        assert!(reloaded.elapsed() < Duration::from_secs(30), "the standby must stop to follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tier.apply(&key(2), put("lost")).await.expect("a record");
    follower.caught_up().await;
    follower.take();
    primary.kill9().expect("killed");
    standby.promote().await.expect("promoted");
    let back = until_writable(&tier).await;
    assert!(back < BACK_WITHIN, "{back:?}");
    let cleared = Instant::now();
    follower.until(|follower| follower.take().contains(&Notice::Lost)).await;
    assert!(cleared.elapsed() < BACK_WITHIN, "{:?}", cleared.elapsed());
    assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
    assert!(matches!(tier.apply(&key(2), Op::Get).await, Ok(Reply::Miss(_))), "it was lost by the failover");
}

/// The primary is stopped, as a machine that hangs: its connections stay open, and nothing answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_is_left_for_the_standby_that_was_promoted() {
    let primary = Server::start().await.expect("a server");
    let standby = primary.start_standby().await.expect("a standby");
    let short = namespace(Role::Store).with_budget(Duration::from_millis(300));
    let handle = Postgres::new(&url_of(&[primary.port(), standby.port()])).expect("a handle");
    let tier = handle.open(&short).expect("a tier");
    tier.apply(&key(1), put("v")).await.expect("a record");
    // All eight connections are open.
    let one = key(1);
    futures_util::future::join_all((0..64).map(|_| tier.apply(&one, Op::Get))).await;
    primary.wait_for(&standby).await.expect("replayed");
    primary.pause().expect("stopped");
    standby.promote().await.expect("promoted");
    let burst = (0..16).map(|number| {
        let tier = Arc::clone(&tier);
        tokio::spawn(async move { tier.apply(&key(100 + number), put("v")).await.is_ok() })
    });
    futures_util::future::join_all(burst).await;
    let back = until_writable(&tier).await;
    assert!(back < BACK_WITHIN, "{back:?}");
    primary.resume().expect("going on");
}

#[tokio::test]
async fn a_standby_and_a_dead_host_before_the_primary_are_skipped_quickly() {
    let primary = Server::start().await.expect("a server");
    let standby = primary.start_standby().await.expect("a standby");
    let dead = Server::away().await.expect("a port");
    // This one takes connections and never answers.
    let silent = Proxy::start(primary.port()).expect("a proxy");
    silent.stall(terrace_testbed::Stall::Both);
    let start = Instant::now();
    let ports = [silent.port(), dead.port(), standby.port(), primary.port()];
    let tier = open(&url_of(&ports), Role::Store);
    tier.apply(&key(1), put("v")).await.expect("a record");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // The next connection begins with the host that was the primary.
    let one = key(1);
    let others = (0..8).map(|_| tier.apply(&one, Op::Get));
    let start = Instant::now();
    for reply in futures_util::future::join_all(others).await {
        assert!(matches!(reply, Ok(Reply::Hit(_))));
    }
    assert!(start.elapsed() < Duration::from_millis(750), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_standby_alone_is_refused_and_answers_nothing_from_the_past() {
    let primary = Server::start().await.expect("a server");
    open(&primary.url(), Role::Store).apply(&key(1), put("v")).await.expect("a record");
    let standby = primary.start_standby().await.expect("a standby");
    primary.wait_for(&standby).await.expect("replayed");
    let tier = open(&standby.url(), Role::Store);
    for error in [
        tier.ready().await.expect_err("a standby"),
        tier.apply(&key(1), Op::Get).await.expect_err("a standby"),
        tier.apply(&key(1), put("w")).await.expect_err("a standby"),
    ] {
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
        assert!(!error.is_transient());
        assert_eq!(error.finding().expect("a finding").topic(), FindingTopic::Role);
    }
    // Where another host is away, it may be the primary that comes back, or this one is promoted.
    let away = Server::away().await.expect("a port");
    let error = open(&url_of(&[away.port(), standby.port()]), Role::Store).ready().await.expect_err("none");
    assert!(error.is_transient(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applications_pool_leaves_a_server_that_takes_no_writes() {
    let old = Server::start().await.expect("a server");
    let proxy = Proxy::start(old.port()).expect("a proxy");
    let pool =
        PgPoolOptions::new().max_connections(4).connect(&url_of(&[proxy.port()])).await.expect("a pool");
    let tier = Postgres::from_pool(pool).open(&namespace(Role::Store)).expect("a tier");
    tier.apply(&key(1), put("v")).await.expect("a record");
    let new = old.start_standby().await.expect("a standby");
    old.wait_for(&new).await.expect("a copy");
    old.read_only(true).await.expect("read-only");
    new.promote().await.expect("promoted");
    proxy.lead_to(new.port());
    let back = until_writable(&tier).await;
    assert!(back < BACK_WITHIN, "{back:?}");
}
