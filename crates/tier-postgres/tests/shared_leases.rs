//! Leases of concurrent callers share statements. Each is decided alone and answered alone.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{sync::Arc, time::Duration};

use sqlx::Connection;
use support::{HOUR, connect, key, namespace};
use terrace_testbed::shared_postgres;
use terrace_tier::{Backend, Error, ErrorKind, Op, Reply, Role, Token};
use terrace_tier_postgres::Postgres;

const CALLERS: u64 = 200;

fn lease() -> Op {
    Op::Lease { token: Token::of_loader(), ttl: HOUR, over: None, replaces: Token::NONE }
}

#[tokio::test]
async fn a_locked_row_holds_up_its_own_lease_alone() {
    let url = shared_postgres().await.expect("a server");
    let postgres = Postgres::new(&url).expect("a URL");
    let tier = postgres.open(&namespace(Role::Cache).with_budget(Duration::from_secs(3))).expect("a tier");
    // A tombstone is a row that a plain read misses, so that a lease must change the row.
    let tombstone = Op::Invalidate { version: None, tombstone_ttl: HOUR };
    tier.apply(&key(7), tombstone).await.expect("a tombstone");
    let mut session = connect(&url).await;
    sqlx::raw_sql("BEGIN").execute(&mut session).await.expect("begun");
    let locked = sqlx::query("SELECT FROM terrace.cache_entries WHERE digest = $1 FOR UPDATE")
        .bind(key(7).digest)
        .fetch_all(&mut session)
        .await
        .expect("the lock");
    assert_eq!(locked.len(), 1);

    let callers = (0..CALLERS).map(|number| {
        let tier = Arc::clone(&tier);
        tokio::spawn(async move { tier.apply(&key(number), lease()).await })
    });
    let mut answers: Vec<(u64, Result<Reply, Error>)> = Vec::new();
    for (number, caller) in (0..).zip(callers.collect::<Vec<_>>()) {
        answers.push((number, caller.await.expect("no panic")));
    }
    let batch = (0..50).map(|number| (key(number), lease())).collect();
    answers.extend((0..).zip(tier.apply_many(batch).await));
    for (number, answer) in answers {
        match number {
            7 => assert_eq!(answer.map_err(|error| error.kind()), Err(ErrorKind::Timeout)),
            _ => assert!(matches!(answer, Ok(Reply::Miss(_))), "{number}: {answer:?}"),
        }
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut session).await.expect("rolled back");
    session.close().await.expect("closed");
}
