//! A server without a free connection, without disk, or that ends idle sessions: typed errors, nothing lost,
//! and the tier is back by itself.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::PgConnection;
use support::{HOUR, connect, key, namespace, open, put};
use terrace_core::{Cache, NoNear};
use terrace_testbed::Postgres as Server;
use terrace_tier::{
    Backend, Condition, Deadlines, ErrorKind, FindingTopic, Op, Order, Reply, Role, Tier, Timestamp,
};
use terrace_tier_postgres::Postgres;

fn put_bytes(bytes: usize) -> Op {
    Op::Put {
        order: Order::Author(Condition::Always),
        deadlines: Deadlines::forever(Timestamp::from_millis(1)),
        // Random bytes: the server compresses others.
        body: Some(Bytes::from((0..bytes).map(|_| fastrand::u8(..)).collect::<Vec<_>>())),
        tombstone_ttl: HOUR,
    }
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_named_and_used_again() {
    let server = Server::options().setting("max_connections", "12").start().await.expect("a server");
    let kept = open(&server.url(), Role::Store);
    kept.apply(&key(1), put("v")).await.expect("a record");
    let mut others: Vec<PgConnection> = Vec::new();
    while let Ok(session) = <PgConnection as sqlx::Connection>::connect(&server.url()).await {
        others.push(session);
    }
    // A handle that has a connection goes on.
    kept.apply(&key(2), put("v")).await.expect("a record");
    let tier = open(&server.url(), Role::Store);
    for op in [put("w"), Op::Get] {
        let error = tier.apply(&key(3), op).await.expect_err("no connection is left");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.finding().expect("a finding").topic(), FindingTopic::Memory);
        assert!(error.to_string().contains("max_connections"), "{error}");
    }
    // `ready` of the first handle finds that the log has none.
    let findings = kept.ready().await.expect("it works without the log");
    assert!(findings.iter().any(|finding| finding.cause().contains("no connection left")), "{findings:?}");
    drop(others);
    let start = tokio::time::Instant::now();
    while tier.apply(&key(3), put("w")).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 1..=3 {
        assert!(matches!(tier.apply(&key(number), Op::Get).await, Ok(Reply::Hit(_))), "{number}");
    }
}

#[tokio::test]
async fn a_server_that_ends_idle_sessions_ends_none_of_the_pool() {
    let server = Server::start().await.expect("a server");
    let mut operator = connect(&server.superuser_url()).await;
    let has: bool = sqlx::query_scalar("SELECT current_setting('idle_session_timeout', true) IS NOT NULL")
        .fetch_one(&mut operator)
        .await
        .expect("a row");
    if !has {
        println!("left out: the setting begins with Postgres 14");
        return;
    }
    let set = "ALTER ROLE terrace_test_app SET idle_session_timeout = '50ms'";
    sqlx::raw_sql(set).execute(&mut operator).await.expect("set");
    let tier = open(&server.url(), Role::Store);
    for number in 0..4 {
        tier.apply(&key(number), put("v")).await.expect("a record");
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
}

#[tokio::test]
async fn a_transaction_that_was_ended_for_idling_is_a_typed_error_and_the_next_one_works() {
    let server = Server::start().await.expect("a server");
    let postgres = Postgres::new(&server.url()).expect("a handle");
    postgres.prepare().await.expect("the schema");
    let cache: Cache<i64, String, NoNear> =
        Cache::builder("users").store(postgres.clone()).build().expect("a cache");
    let mut session = connect(&server.url()).await;
    let mut watching = connect(&server.url()).await;
    sqlx::raw_sql("SET idle_in_transaction_session_timeout = 20; BEGIN")
        .execute(&mut session)
        .await
        .expect("begun");
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    while sqlx::query_scalar::<_, i64>(idle).fetch_one(&mut watching).await.expect("a count") > 0 {}
    let error = postgres.invalidate_in(&mut session, &cache, &7).await.expect_err("the session has ended");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let mut session = connect(&server.url()).await;
    postgres.invalidate_in(&mut session, &cache, &7).await.expect("a row");
}

/// A small disk for one server's tables: a tmpfs, which only root may mount.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(megabytes: usize) -> Option<Self> {
        let folder = std::env::temp_dir().join(terrace_testbed::unique_name("small-disk"));
        std::fs::create_dir(&folder).ok()?;
        let size = format!("size={megabytes}m,mode=0777");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        let _gone = std::fs::remove_dir(&folder);
        None
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server's processes may hold files of it for a moment.
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).output();
        let _gone = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_full_disk_is_named_loses_nothing_and_is_left_behind_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(48) else {
        println!("left out: only root can mount a small disk");
        return;
    };
    let server = Server::start().await.expect("a server");
    // The folder of a table space belongs to the user of the server.
    let folder = disk.path().join("tables");
    std::fs::create_dir(&folder).expect("a folder");
    let data = std::fs::metadata(format!("/proc/{}", server.pid().expect("a process"))).expect("a process");
    std::os::unix::fs::chown(
        &folder,
        Some(std::os::unix::fs::MetadataExt::uid(&data)),
        Some(std::os::unix::fs::MetadataExt::gid(&data)),
    )
    .expect("chown");
    let space = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
    let mut operator = connect(&server.superuser_url()).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(space)).execute(&mut operator).await.expect("a table space");
    sqlx::raw_sql("CREATE DATABASE small OWNER terrace_test_app TABLESPACE small")
        .execute(&mut operator)
        .await
        .expect("a database");
    let url = server.url().rsplit_once('/').map(|(server, _)| format!("{server}/small")).expect("a path");
    let tier: Arc<dyn Tier> =
        Postgres::new(&url).expect("a handle").open(&namespace(Role::Store)).expect("a tier");
    let mut kept = Vec::new();
    let full = loop {
        let number = kept.len() as u64;
        assert!(number < 500, "the disk is never full");
        match tier.apply(&key(number), put_bytes(200_000)).await {
            Ok(reply) => kept.push((number, reply)),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::ReadOnly, "{full}");
    assert_eq!(full.finding().expect("a finding").topic(), FindingTopic::Memory);
    assert!(full.to_string().contains("disk is full"), "{full}");
    for (number, _) in &kept {
        assert!(matches!(tier.apply(&key(*number), Op::Get).await, Ok(Reply::Hit(_))), "{number} is lost");
    }
    // What was refused did not happen.
    let refused = key(kept.len() as u64);
    assert!(matches!(tier.apply(&refused, Op::Get).await, Ok(Reply::Miss(_))));
    // Space again: an operator makes the disk larger.
    let grown = Command::new("mount").args(["-o", "remount,size=96m"]).arg(disk.path()).output();
    assert!(grown.is_ok_and(|output| output.status.success()));
    tier.apply(&refused, put_bytes(200_000)).await.expect("there is space");
    drop(server);
}
