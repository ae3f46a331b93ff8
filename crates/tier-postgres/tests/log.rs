//! The log in Postgres reports the changes of one process to all others, in time and without a miss.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection};
use support::{HOUR, connect, follower::RecordingFollower, key, namespace, open, put, run};
use terrace_testbed::{Postgres as Server, Proxy, shared_postgres};
use terrace_tier::{Backend, Notice, Op, Role, Tier, Version};
use terrace_tier_postgres::Postgres;
use tokio::time::Instant;

/// A follower of `users` with a handle of its own, like another process.
async fn follow(url: &str) -> (Postgres, Arc<RecordingFollower>) {
    let handle = Postgres::new(url).expect("a URL");
    let follower = RecordingFollower::new();
    handle.log().expect("a log").follow("users", follower.weak());
    follower.caught_up().await;
    assert!(follower.take().iter().all(|notice| *notice == Notice::Lost));
    (handle, follower)
}

async fn invalidate(server: &mut PgConnection, number: i64) {
    sqlx::query("SELECT terrace.invalidate('users', NULL, terrace.key($1))")
        .bind(number)
        .execute(server)
        .await
        .expect("a row");
}

#[tokio::test]
async fn changes_of_one_process_are_reported_to_the_others() {
    let url = shared_postgres().await.expect("a server");
    let (_first, here) = follow(&url).await;
    let (_second, there) = follow(&url).await;
    let tenant = namespace(Role::Cache).with_tenant(Some("acme\0".to_owned()));
    let tier = Postgres::new(&url).expect("a URL").open(&tenant).expect("a tier");
    let kept = tier.apply(&key(1), put("v")).await.expect("an answer");
    tier.apply(&key(1), Op::Invalidate { version: Some(Version::from_u64(5)), tombstone_ttl: HOUR })
        .await
        .expect("done");
    tier.apply(&key(2), Op::Invalidate { version: None, tombstone_ttl: HOUR }).await.expect("done");
    tier.clear().await.expect("a clear");
    let other = namespace(Role::Cache).with_name("others");
    let others = Postgres::new(&url).expect("a URL").open(&other).expect("a tier");
    others.apply(&key(3), put("v")).await.expect("an answer");

    let terrace_tier::Reply::Kept(version) = kept else { panic!("{kept:?}") };
    let tenant = || tenant.tenant.clone();
    let of = |number: u64, version| Notice::Key { tenant: tenant(), key: key(number).bytes, version };
    let five = Some(Version::from_u64(5));
    let expected = [of(1, Some(version)), of(1, five), of(2, None), Notice::Clear { tenant: tenant() }];
    for follower in [here, there] {
        follower.caught_up().await;
        assert_eq!(follower.take(), expected);
    }
}

#[tokio::test]
async fn a_new_follower_learns_first_that_nothing_older_is_proven() {
    let url = shared_postgres().await.expect("a server");
    let (handle, _first) = follow(&url).await;
    let second = RecordingFollower::new();
    for _tenant in 0..3 {
        handle.log().expect("a log").follow("users", second.weak());
    }
    second.caught_up().await;
    assert_eq!(second.take(), [Notice::Lost]);
    invalidate(&mut connect(&url).await, 1).await;
    second.caught_up().await;
    assert_eq!(second.take_keys(), [1], "once, though the log was followed through three tiers");
}

#[test]
fn a_runtime_that_ends_does_not_end_the_log_of_others() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
    let others = runtime();
    let url = others.block_on(shared_postgres()).expect("a server");
    let first = runtime();
    let (handle, here) = first.block_on(follow(&url));
    drop(first);
    let there = RecordingFollower::new();
    others.block_on(async {
        handle.log().expect("a log").follow("users", there.weak());
        there.caught_up().await;
        here.caught_up().await;
        assert_eq!(here.take(), [Notice::Lost], "the time without a poller is not proven");
    });
}

#[tokio::test]
async fn a_transaction_that_commits_after_later_ones_is_reported() {
    let url = shared_postgres().await.expect("a server");
    let (_handle, follower) = follow(&url).await;
    let (mut early, mut late) = (connect(&url).await, connect(&url).await);
    let mut open = early.begin().await.expect("a transaction");
    invalidate(&mut open, 1).await;
    for number in 2..10 {
        invalidate(&mut late, number).await;
    }
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), (2..10).collect::<Vec<_>>());
    // One change is in a subtransaction, and another in a subtransaction that rolls back.
    sqlx::raw_sql("SAVEPOINT a").execute(&mut *open).await.expect("a savepoint");
    invalidate(&mut open, 10).await;
    sqlx::raw_sql("SAVEPOINT b").execute(&mut *open).await.expect("a savepoint");
    invalidate(&mut open, 11).await;
    sqlx::raw_sql("ROLLBACK TO b").execute(&mut *open).await.expect("a rollback");
    open.commit().await.expect("a commit");
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), [1, 10]);
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), [0_u64; 0], "each key is reported once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_transactions_of_all_lengths_none_is_missed() {
    let url = shared_postgres().await.expect("a server");
    let followers = [follow(&url).await, follow(&url).await];
    let writers = (0..8).map(|writer| {
        let url = url.clone();
        tokio::spawn(async move {
            let mut server = connect(&url).await;
            let mut random = fastrand::Rng::with_seed(writer);
            let mut committed = Vec::new();
            for number in 0..60 {
                let number = writer * 1000 + number;
                let mut transaction = server.begin().await.expect("a transaction");
                invalidate(&mut transaction, i64::try_from(number).expect("small")).await;
                tokio::time::sleep(Duration::from_millis(random.u64(0..40))).await;
                if random.u8(0..4) == 0 {
                    transaction.rollback().await.expect("a rollback");
                } else {
                    transaction.commit().await.expect("a commit");
                    committed.push(number);
                }
            }
            committed
        })
    });
    let mut committed = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        committed.extend(writer.await.expect("no panic"));
    }
    for (_, follower) in followers {
        follower.caught_up().await;
        assert_eq!(follower.take_keys(), committed);
    }
}

#[tokio::test]
async fn an_answer_that_comes_late_proves_nothing_later_than_its_question() {
    let url = shared_postgres().await.expect("a server");
    let (proxy, through) = proxied(&url);
    let (_handle, follower) = follow(&through).await;
    proxy.delay(Duration::from_millis(100));
    follower.caught_up().await;
    follower.caught_up().await;
    let (at, arrived) = *follower.heartbeats().last().expect("a heartbeat");
    assert!(arrived - at >= Duration::from_millis(100), "{:?}", arrived - at);
}

#[tokio::test]
async fn changes_while_the_connection_was_lost_are_reported_after() {
    let url = shared_postgres().await.expect("a server");
    let (proxy, through) = proxied(&url);
    let (_handle, follower) = follow(&through).await;
    let mut server = connect(&url).await;
    proxy.refuse().await;
    invalidate(&mut server, 1).await;
    proxy.accept().await;
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), [1]);
}

#[tokio::test]
async fn rows_that_were_deleted_before_they_were_read_are_reported_as_a_loss() {
    let url = shared_postgres().await.expect("a server");
    let (proxy, through) = proxied(&url);
    let (_handle, follower) = follow(&through).await;
    let mut server = connect(&url).await;
    proxy.refuse().await;
    invalidate(&mut server, 1).await;
    run(&url, "SELECT terrace.trim_outbox(1)").await;
    run(&url, "UPDATE terrace.outbox_snapshots SET taken_at = taken_at - interval '11 minutes'").await;
    let gone: i64 =
        sqlx::query_scalar("SELECT terrace.trim_outbox(9)").fetch_one(&mut server).await.expect("a count");
    assert_eq!(gone, 1);
    proxy.accept().await;
    follower.caught_up().await;
    assert_eq!(follower.take(), [Notice::Lost]);
    invalidate(&mut server, 2).await;
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), [2]);
}

#[tokio::test]
async fn a_server_that_was_restarted_may_have_gone_back_in_time() {
    let server = Server::start().await.expect("a server");
    let url = server.create_database().await.expect("a database");
    let (_handle, follower) = follow(&url).await;
    server.kill9().expect("killed");
    server.restart().await.expect("restarted");
    follower.caught_up().await;
    assert_eq!(follower.take(), [Notice::Lost]);
    invalidate(&mut connect(&url).await, 1).await;
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), [1]);
}

#[tokio::test]
async fn a_schema_that_was_dropped_is_made_again_and_the_loss_is_reported() {
    let url = shared_postgres().await.expect("a server");
    let (_handle, follower) = follow(&url).await;
    run(&url, "DROP SCHEMA terrace CASCADE").await;
    follower.until(|follower| follower.take().contains(&Notice::Lost)).await;
    follower.caught_up().await;
    invalidate(&mut connect(&url).await, 1).await;
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), [1]);
}

#[tokio::test]
async fn an_outbox_that_was_restored_from_a_dump_is_reported_as_a_loss_once() {
    let url = shared_postgres().await.expect("a server");
    let (_handle, follower) = follow(&url).await;
    // The dump has the last rows of a server with more transactions, and one of its trimmed snapshots.
    run(
        &url,
        "BEGIN;
         ALTER TABLE terrace.outbox RENAME TO old;
         CREATE TABLE terrace.outbox (LIKE terrace.old INCLUDING ALL);
         DROP TABLE terrace.old;
         INSERT INTO terrace.outbox (xid, namespace) SELECT '99999999999', 'users' FROM generate_series(1, 20000);
         INSERT INTO terrace.outbox_snapshots VALUES (now() - interval '1 hour', '99999999990:99999999990:', true);
         COMMIT",
    )
    .await;
    follower.until(|follower| follower.take().contains(&Notice::Lost)).await;
    let mut server = connect(&url).await;
    for number in 1..=3 {
        invalidate(&mut server, number).await;
        follower.caught_up().await;
        assert_eq!(follower.take_keys(), [number.unsigned_abs()]);
        run(&url, "SELECT terrace.trim_outbox(100)").await;
    }
    let left = "SELECT count(*), (SELECT count(*) FROM terrace.outbox_snapshots) FROM terrace.outbox";
    let left: (i64, i64) = sqlx::query_as(left).fetch_one(&mut server).await.expect("counts");
    assert_eq!(left, (3, 1), "no row of the dump is left, and all new rows are");
}

#[tokio::test]
async fn a_follower_that_is_too_far_behind_is_notified_of_a_loss() {
    let url = shared_postgres().await.expect("a server");
    let (_handle, follower) = follow(&url).await;
    run(&url, "SELECT terrace.invalidate('users', NULL, terrace.key(n)) FROM generate_series(1, 10001) n")
        .await;
    follower.caught_up().await;
    assert_eq!(follower.take(), [Notice::Lost]);
}

#[tokio::test]
async fn the_connection_ends_with_the_last_follower() {
    let url = shared_postgres().await.expect("a server");
    let (_handle, follower) = follow(&url).await;
    drop(follower);
    let mut server = connect(&url).await;
    let polls = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%outbox_has_gap%' AND pid <> pg_backend_pid()";
    for _ in 0..500 {
        let polling: i64 = sqlx::query_scalar(polls).fetch_one(&mut server).await.expect("a count");
        if polling == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still polling");
}

/// Prints the time from the reply to a write until another process is notified, at a thousand writes a
/// second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_writes_a_second_are_reported_in_far_less_than_a_second() {
    let url = shared_postgres().await.expect("a server");
    let (_handle, follower) = follow(&url).await;
    let tier = open(&url, Role::Store);
    tier.ready().await.expect("ready");
    let start = Instant::now();
    let writes = (0..3000_u32).map(|number| {
        let tier: Arc<dyn Tier> = Arc::clone(&tier);
        tokio::spawn(async move {
            tokio::time::sleep_until(start + Duration::from_millis(1) * number).await;
            tier.apply(&key(u64::from(number)), put("v")).await.expect("an answer");
            (key(u64::from(number)).bytes, Instant::now())
        })
    });
    let mut acknowledged = HashMap::new();
    for write in writes.collect::<Vec<_>>() {
        let (key, at) = write.await.expect("no panic");
        acknowledged.insert(key, at);
    }
    follower.caught_up().await;
    let lag = |(notified_at, notice): (Instant, Notice)| match notice {
        Notice::Key { key, .. } => notified_at.saturating_duration_since(acknowledged[&key]),
        other => panic!("{other:?}"),
    };
    let mut lags: Vec<Duration> = follower.take_timed().into_iter().map(lag).collect();
    lags.sort_unstable();
    assert_eq!(lags.len(), 3000);
    let (p50, p99, most) = (lags[1500], lags[2970], lags[2999]);
    println!("notified after: p50 {p50:.1?}, p99 {p99:.1?}, at most {most:.1?}");
    assert!(p99 < Duration::from_millis(500), "{p99:?}, far above the 50 ms of an idle machine");
}

/// Starts a proxy for the database of `url`, and gives the URL that leads through it.
fn proxied(url: &str) -> (Proxy, String) {
    let mut url = url::Url::parse(url).expect("a URL");
    let proxy = Proxy::start(url.port().expect("a port")).expect("a proxy");
    url.set_port(Some(proxy.port())).expect("a port");
    (proxy, url.into())
}
