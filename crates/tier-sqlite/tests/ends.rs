//! Every row that the library writes has an end or a bound: docs/operations.md lists the tables.
#![allow(clippy::expect_used, reason = "a failed preparation fails the test")]

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Connection, SqliteConnection};
use terrace_tier::{
    Backend, Condition, Deadlines, Namespace, Op, Order, Role, Tier, TierKey, Timestamp, Token,
};
use terrace_tier_sqlite::Sqlite;
use tokio::time::{Instant, sleep};

fn key(number: u64) -> TierKey {
    let mut digest = [0; 16];
    digest[8..].copy_from_slice(&number.to_be_bytes());
    TierKey { bytes: Bytes::copy_from_slice(&number.to_be_bytes()), digest }
}

fn put(deadlines: Deadlines) -> Op {
    let order = Order::Author(Condition::Always);
    Op::Put {
        order,
        deadlines,
        body: Some(Bytes::from_static(b"value")),
        tombstone_ttl: Duration::from_secs(60),
    }
}

fn open(path: &Path, role: Role) -> Arc<dyn Tier> {
    let namespace = Namespace::new("users", role).with_type(1, 7).with_budget(Duration::from_secs(30));
    Sqlite::file(path).expect("the only handle").open(&namespace).expect("a tier")
}

async fn count(path: &Path, rows: &'static str) -> i64 {
    let url = format!("sqlite://{}", path.display());
    let mut other = SqliteConnection::connect(&url).await.expect("a connection");
    sqlx::query_scalar(rows).fetch_one(&mut other).await.expect("a count")
}

#[tokio::test]
async fn every_row_of_a_cache_has_an_end_but_for_copies_without_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let tier = open(&path, Role::Cache);
    let soon = Deadlines::ttl(Timestamp::from_millis(1), Duration::from_secs(1 << 40));
    let lease =
        Op::Lease { token: Token::random(), ttl: Duration::from_secs(60), over: None, replaces: Token::NONE };
    let tombstone = Op::Invalidate { version: None, tombstone_ttl: Duration::from_secs(60) };
    for (number, op) in [put(soon), lease, tombstone].into_iter().enumerate() {
        tier.apply(&key(number as u64), op).await.expect("done");
    }
    assert_eq!(count(&path, "SELECT count(*) FROM cells WHERE drop_after IS NULL").await, 0);
    tier.apply(&key(9), put(Deadlines::forever(Timestamp::from_millis(1)))).await.expect("done");
    assert_eq!(count(&path, "SELECT count(*) FROM cells WHERE drop_after IS NULL").await, 1);
    assert_eq!(count(&path, "SELECT count(*) FROM spaces").await, 1, "one for a namespace and tenant");
    let guide = include_str!("../../../docs/operations.md");
    for table in ["cells", "spaces"] {
        assert!(guide.contains(&format!("| `{table}` |")), "{table} is not in the guide");
    }
}

/// More rows than one round of cleaning deletes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_of_many_copies_frees_all_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let tier = open(&path, Role::Cache);
    tier.apply(&key(1), put(Deadlines::forever(Timestamp::from_millis(1)))).await.expect("done");
    let url = format!("sqlite://{}", path.display());
    let mut other = SqliteConnection::connect(&url).await.expect("a connection");
    sqlx::query(
        "WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < 120000) \
         INSERT INTO cells (space, digest, key, epoch, cell) \
         SELECT c.space, CAST(n AS BLOB), '', c.epoch, c.cell FROM numbers, cells c WHERE c.rowid = 1",
    )
    .execute(&mut other)
    .await
    .expect("copies");
    tier.clear().await.expect("done");
    let start = Instant::now();
    while count(&path, "SELECT count(*) FROM cells").await > 0 {
        assert!(start.elapsed() < Duration::from_secs(120), "dead rows stay");
        sleep(Duration::from_millis(200)).await;
    }
}
