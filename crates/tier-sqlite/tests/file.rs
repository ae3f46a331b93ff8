//! One handle for each file: second handles, files of other programs, locks and kills.
#![allow(clippy::expect_used, reason = "a failed preparation fails the test")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use terrace_tier::{
    Backend, Condition, Deadlines, ErrorKind, Level, Namespace, Op, Order, Reply, Role, Tier, TierKey,
    Timestamp,
};
use terrace_tier_sqlite::Sqlite;

fn namespace(role: Role) -> Namespace {
    Namespace::new("users", role).with_type(1, 7).with_budget(Duration::from_secs(5))
}

fn store(path: &Path) -> Arc<dyn Tier> {
    Sqlite::file(path).expect("the only handle").open(&namespace(Role::Store)).expect("a tier")
}

fn key(number: u64) -> TierKey {
    let mut digest = [0; 16];
    digest[8..].copy_from_slice(&number.to_be_bytes());
    TierKey { bytes: Bytes::copy_from_slice(&number.to_be_bytes()), digest }
}

fn put(body: &'static str) -> Op {
    Op::Put {
        order: Order::Author(Condition::Always),
        deadlines: Deadlines::forever(Timestamp::from_millis(1)),
        body: Some(Bytes::from_static(body.as_bytes())),
        tombstone_ttl: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_file_is_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let first = Sqlite::file(&path).expect("the first");
    let second = Sqlite::file(&path).expect_err("a second one");
    assert_eq!(second.kind(), ErrorKind::Config);
    assert!(second.to_string().contains("open in another process"), "{second}");
    drop(first);
    Sqlite::file(&path).expect("after the first");
}

#[tokio::test]
async fn a_namespace_is_used_as_earlier_runs_used_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    // Each call stands for a run of the program: the handle of the last call is dropped.
    let ready = async |change: fn(&mut Namespace)| {
        let mut namespace = namespace(Role::Store);
        change(&mut namespace);
        let tier = Sqlite::file(&path).expect("the only handle").open(&namespace).expect("a tier");
        tier.ready().await.map_err(|error| error.kind())
    };
    let in_use = Err(ErrorKind::NamespaceInUse);
    assert_eq!(ready(|_| {}).await, Ok(vec![]));
    assert_eq!(ready(|_| {}).await, Ok(vec![]));
    assert_eq!(ready(|namespace| namespace.level = Level::Ttl).await, in_use);
    assert_eq!(ready(|namespace| namespace.role = Role::Cache).await, in_use);
    // The value type may change, forward and back.
    assert_eq!(ready(|namespace| (namespace.schema, namespace.shape) = (2, 8)).await, Ok(vec![]));
    assert_eq!(ready(|_| {}).await, Ok(vec![]));
}

#[tokio::test]
async fn a_missing_folder_is_an_error_at_once() {
    let error = Sqlite::file("/nowhere/at/all/terrace.db").expect_err("no folder");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "x".repeat(5000)).expect("a text");
    let error = store(&text).apply(&key(1), put("v")).await.expect_err("no database");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(std::fs::read(&text).expect("the text").len(), 5000);

    let other = folder.path().join("other.db");
    let mut connection = open(&other).await;
    connection.execute("CREATE TABLE theirs (x)").await.expect("a table");
    connection.close().await.expect("closed");
    let error = store(&other).apply(&key(1), put("v")).await.expect_err("another program's");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("another program"), "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    store(&path).apply(&key(1), put("v")).await.expect("a record");
    open(&path).await.execute("PRAGMA user_version = 99").await.expect("a version");
    let error = store(&path).apply(&key(1), Op::Get).await.expect_err("a newer file");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("version 99"), "{error}");
}

#[tokio::test]
async fn another_programs_write_lock_is_busy_and_hits_are_read_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let tier = store(&path);
    tier.apply(&key(1), put("v")).await.expect("a record");
    let mut other = open(&path).await;
    other.execute("BEGIN IMMEDIATE").await.expect("the lock");
    assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
    let error = tier.apply(&key(2), put("v")).await.expect_err("no lock");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    other.execute("ROLLBACK").await.expect("the lock released");
    tier.apply(&key(2), put("v")).await.expect("a record");
}

#[tokio::test]
async fn records_of_a_closed_file_are_there_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    for number in 0..5 {
        store(&path).apply(&key(number), put("v")).await.expect("a record");
    }
    let tier = store(&path);
    for number in 0..5 {
        assert!(matches!(tier.apply(&key(number), Op::Get).await, Ok(Reply::Hit(_))), "{number}");
    }
}

/// Acknowledged writes outlive SIGKILL. The writer is a second process that runs this same test.
#[tokio::test]
async fn a_killed_process_keeps_every_acknowledged_record() {
    const PATH: &str = "TERRACE_SQLITE_KILLED";
    const NAME: &str = "a_killed_process_keeps_every_acknowledged_record";
    if let Some(path) = std::env::var_os(PATH) {
        let tier = store(Path::new(&path));
        for number in 0.. {
            tier.apply(&key(number), put("v")).await.expect("a record");
            println!("acknowledged {number}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let mut writer = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", NAME, "--nocapture"])
        .env(PATH, &path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a writer");
    let lines = BufReader::new(writer.stdout.take().expect("its output")).lines();
    let mut last = None;
    for line in lines.map_while(Result::ok) {
        if let Some((_, number)) = line.split_once("acknowledged ") {
            last = number.parse::<u64>().ok();
        }
        if last == Some(50) {
            writer.kill().expect("killed");
            break;
        }
    }
    writer.wait().expect("gone");
    assert_eq!(last, Some(50));
    let tier = store(&path);
    for number in 0..=50 {
        assert!(matches!(tier.apply(&key(number), Op::Get).await, Ok(Reply::Hit(_))), "{number}");
    }
}

#[tokio::test]
async fn concurrent_puts_share_transactions_and_none_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let tier = store(&folder.path().join("terrace.db"));
    let puts: Vec<_> = (0..500)
        .map(|number| {
            let tier = Arc::clone(&tier);
            tokio::spawn(async move { tier.apply(&key(number), put("v")).await })
        })
        .collect();
    for put in puts {
        assert!(matches!(put.await.expect("no panic"), Ok(Reply::Kept(_))));
    }
    let all = tier.apply_many((0..500).map(|number| (key(number), Op::Get)).collect()).await;
    assert!(all.iter().all(|reply| matches!(reply, Ok(Reply::Hit(_)))));
}

async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.expect("a connection")
}
