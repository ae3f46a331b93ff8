//! Bad settings and failing servers lead to typed errors. No record is lost, and no secret is shown.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use support::{connect, key, namespace, open, put, run};
use terrace_testbed::{Postgres as Server, shared_postgres};
use terrace_tier::{Backend, Error, ErrorKind, Namespace, Op, Reply, Role, Tier};
use terrace_tier_postgres::Postgres;

fn hits(reply: &Result<Reply, Error>) -> bool {
    matches!(reply, Ok(Reply::Hit(_)))
}

fn with_short_budget(role: Role) -> Namespace {
    namespace(role).with_budget(Duration::from_millis(300))
}

#[test]
fn a_malformed_url_is_an_error_at_once_and_shows_no_secret() {
    for url in [
        "",
        "nonsense",
        "redis://u:hunter2@h",
        "postgres://u:hunter2@h:notaport/db",
        "postgres://u:hunter2@[/db",
    ] {
        let error = Postgres::new(url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let handle = Postgres::builder("postgres://u:hunter2@h/db?password=hunter2&odd=hunter2");
    assert!(!format!("{handle:?}").contains("hunter2"));
    assert!(!format!("{:?}", handle.build().expect("a handle")).contains("hunter2"));
    assert_eq!(
        Postgres::builder("postgres://h/db").schema("a\"b").build().expect_err("a name").kind(),
        ErrorKind::Config
    );
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_shown() {
    let server = Server::options().password("the right one").start().await.expect("a server");
    let url = format!("postgres://postgres:hunter2@127.0.0.1:{}/postgres", server.port());
    let tier = open(&url, Role::Store);
    for error in [
        tier.ready().await.expect_err("denied"),
        tier.apply(&key(1), Op::Get).await.expect_err("denied"),
        tier.apply(&key(1), put("v")).await.expect_err("denied"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!format!("{error} {error:?} {tier:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_read_only_server_serves_reads_and_refuses_writes() {
    let server = Server::start().await.expect("a server");
    let url = server.create_database().await.expect("a database");
    let tier = open(&url, Role::Store);
    tier.apply(&key(1), put("v")).await.expect("a record");
    server.read_only(true).await.expect("read-only");
    for tier in [tier, open(&url, Role::Store)] {
        assert!(hits(&tier.apply(&key(1), Op::Get).await));
        let error = tier.apply(&key(2), put("v")).await.expect_err("no writes");
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    }
    // A read-only server makes no database either.
    let empty = server.create_database().await;
    assert!(empty.is_err(), "the server is read-only");
    server.read_only(false).await.expect("writable");
    open(&url, Role::Store).apply(&key(2), put("v")).await.expect("a record");
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let url = shared_postgres().await.expect("a server");
    open(&url, Role::Store).ready().await.expect("ready");
    run(&url, "INSERT INTO terrace.migrations (version) VALUES (99)").await;
    let error = open(&url, Role::Store).apply(&key(1), put("v")).await.expect_err("a newer schema");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("version 99"), "{error}");
}

#[tokio::test]
async fn a_dropped_schema_is_reported_and_made_again() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    tier.apply(&key(1), put("v")).await.expect("a record");
    run(&url, "DROP SCHEMA terrace CASCADE").await;
    let error = tier.apply(&key(1), Op::Get).await.expect_err("no schema");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    tier.apply(&key(1), put("v")).await.expect("a record");
    assert!(hits(&tier.apply(&key(1), Op::Get).await));
}

#[tokio::test]
async fn a_missing_database_is_a_wrong_setting() {
    let url = shared_postgres().await.expect("a server");
    let missing = format!("{}/no_such_database", url.rsplit_once('/').expect("a path").0);
    let error = open(&missing, Role::Store).apply(&key(1), Op::Get).await.expect_err("no database");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_fails_at_once_and_is_used_when_it_comes() {
    let server = Server::away().await.expect("a free port");
    let tier = open(&server.url(), Role::Store);
    let start = Instant::now();
    let error = tier.apply(&key(1), Op::Get).await.expect_err("no server");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(1), "not the whole budget");
    server.restart().await.expect("started");
    tier.apply(&key(1), put("v")).await.expect("a record");
    assert!(hits(&tier.apply(&key(1), Op::Get).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_used_again_and_a_caller_fails_at_most_once() {
    let server = Server::start().await.expect("a server");
    let tier = open(&server.url(), Role::Store);
    tier.apply(&key(1), put("v")).await.expect("a record");
    // All eight connections are open and idle when the server goes.
    let burst = |tier: &Arc<dyn Tier>| {
        let tier = Arc::clone(tier);
        async move {
            let puts = (10..26).map(|number| {
                let tier = Arc::clone(&tier);
                tokio::spawn(async move { tier.apply(&key(number), put("v")).await })
            });
            let mut failed = 0;
            for put in puts.collect::<Vec<_>>() {
                failed += usize::from(put.await.expect("no panic").is_err());
            }
            failed
        }
    };
    assert_eq!(burst(&tier).await, 0);
    server.restart().await.expect("restarted");
    let first = tier.apply(&key(1), Op::Get).await;
    assert!(hits(&first) || first.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    // After that one failure, all older connections are tested: no other caller gets a broken one.
    assert!(hits(&tier.apply(&key(1), Op::Get).await));
    assert_eq!(burst(&tier).await, 0);
}

#[tokio::test]
async fn a_stopped_server_costs_a_caller_its_budget_and_no_more() {
    let server = Server::start().await.expect("a server");
    let handle = Postgres::new(&server.url()).expect("a handle");
    handle.open(&namespace(Role::Store)).expect("a tier").apply(&key(1), put("v")).await.expect("a record");
    let tier = handle.open(&with_short_budget(Role::Store)).expect("a tier");
    assert!(hits(&tier.apply(&key(1), Op::Get).await));
    server.pause().expect("stopped");
    // The first call is sent on the open connection. The others get no connection.
    let calls =
        [(put("v"), ErrorKind::Unknown), (Op::Get, ErrorKind::Timeout), (put("v"), ErrorKind::Timeout)];
    for (op, kind) in calls {
        let start = Instant::now();
        let error = tier.apply(&key(1), op).await.expect_err("no answer");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    }
    server.resume().expect("going on");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(hits(&tier.apply(&key(1), Op::Get).await));
}

/// The server has `synchronous_commit = off`, and its WAL writer sleeps. A kill loses each write that did
/// not force its commit to the disk; a write of a record must force it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_outlive_a_killed_server() {
    let server = Server::options()
        .durable()
        .setting("synchronous_commit", "off")
        .setting("wal_writer_delay", "10000ms")
        .start()
        .await
        .expect("a server");
    let (store, cache) = (open(&server.url(), Role::Store), {
        let copies = namespace(Role::Cache).with_name("copies");
        Postgres::new(&server.url()).expect("a URL").open(&copies).expect("a tier")
    });
    for number in 0..50 {
        store.apply(&key(number), put("v")).await.expect("a record");
        cache.apply(&key(number), put("v")).await.expect("a copy");
    }
    let removed = store.apply(&key(0), Op::Remove { tombstone_ttl: support::HOUR }).await;
    assert!(matches!(removed, Ok(Reply::Done { existed: true, .. })));
    server.kill9().expect("killed");
    server.restart().await.expect("restarted");
    let (store, copies) = (open(&server.url(), Role::Store), connect(&server.url()).await);
    assert!(!hits(&store.apply(&key(0), Op::Get).await));
    for number in 1..50 {
        assert!(hits(&store.apply(&key(number), Op::Get).await), "{number}");
    }
    let mut copies = copies;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM terrace.cache_entries")
        .fetch_one(&mut copies)
        .await
        .expect("a count");
    assert_eq!(left, 0, "a crash empties the table of copies, which is safe");
}

#[tokio::test]
async fn a_session_that_an_operator_ends_is_replaced() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    tier.apply(&key(1), put("v")).await.expect("a record");
    run(
        &url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    let first = tier.apply(&key(1), Op::Get).await;
    assert!(hits(&first) || first.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    assert!(hits(&tier.apply(&key(1), Op::Get).await));
}
