//! Each change writes its row to the outbox, in the statement or transaction that makes the change.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use sqlx::{Connection, PgConnection, Row};
use support::{HOUR, connect, key, namespace, open, put, put_if, run};
use terrace_testbed::shared_postgres;
use terrace_tier::{
    Backend, Condition, Deadlines, Fence, Level, Op, Order, Reply, Role, Tier, Timestamp, Token, Version,
};
use terrace_tier_postgres::Postgres;

/// The namespace, tenant, key and version of each row since the last call, in the order of ids.
async fn rows(server: &mut PgConnection) -> Vec<(String, String, Option<Vec<u8>>, Option<i64>)> {
    let rows = sqlx::query(
        "WITH gone AS (DELETE FROM terrace.outbox RETURNING *) \
         SELECT namespace, tenant, key, version FROM gone ORDER BY id",
    )
    .fetch_all(server)
    .await
    .expect("rows");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

/// The key and version of each row since the last call, all of the namespace `users` without a tenant.
async fn keys(server: &mut PgConnection) -> Vec<(u64, Option<u64>)> {
    let rows = rows(server).await.into_iter().map(|(namespace, tenant, key, version)| {
        assert_eq!((namespace.as_str(), tenant.as_str()), ("users", ""));
        let key = key.expect("a key").try_into().expect("8 bytes");
        (u64::from_be_bytes(key), version.map(i64::cast_unsigned))
    });
    rows.collect()
}

async fn apply(tier: &Arc<dyn Tier>, number: u64, op: Op) -> Reply {
    tier.apply(&key(number), op).await.expect("an answer")
}

fn version_of(reply: &Reply) -> u64 {
    match reply {
        Reply::Kept(version) | Reply::Done { version, .. } => version.as_u64(),
        other => panic!("{other:?}"),
    }
}

fn fill(fence: Fence) -> Op {
    let deadlines = Deadlines::forever(Timestamp::from_millis(1));
    Op::Fill { fence, version: fence.version, deadlines, body: Some(Bytes::from_static(b"v")) }
}

#[tokio::test]
async fn each_change_of_a_record_leaves_its_row() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    tier.ready().await.expect("ready");
    let mut server = connect(&url).await;

    let created = version_of(&apply(&tier, 1, fill(Fence::default())).await);
    assert_eq!(keys(&mut server).await, [(1, Some(created))], "a load created a record");
    let written = version_of(&apply(&tier, 1, put("w")).await);
    assert_eq!(keys(&mut server).await, [(1, Some(written))]);
    let seen = Condition::Version(Version::from_u64(written));
    let replaced = version_of(&apply(&tier, 1, put_if(seen, "x")).await);
    assert_eq!(keys(&mut server).await, [(1, Some(replaced))]);
    apply(&tier, 1, Op::Expire { deadlines: Deadlines::forever(Timestamp::from_millis(2)) }).await;
    assert_eq!(keys(&mut server).await, [(1, None)], "the same version has other deadlines");
    let removed = version_of(&apply(&tier, 1, Op::Remove { tombstone_ttl: HOUR }).await);
    assert_eq!(keys(&mut server).await, [(1, Some(removed))]);
    let removed = version_of(&apply(&tier, 2, Op::Remove { tombstone_ttl: HOUR }).await);
    assert_eq!(keys(&mut server).await, [(2, Some(removed))], "there is no record, but there may be copies");
    let created = version_of(&apply(&tier, 1, put_if(Condition::Absent, "y")).await);
    assert_eq!(keys(&mut server).await, [(1, Some(created))]);

    // These change nothing.
    apply(&tier, 1, Op::Get).await;
    apply(&tier, 1, fill(Fence::default())).await;
    apply(&tier, 1, put_if(Condition::Absent, "z")).await;
    apply(&tier, 1, put_if(seen, "z")).await;
    apply(&tier, 3, Op::Expire { deadlines: Deadlines::forever(Timestamp::from_millis(2)) }).await;
    assert_eq!(keys(&mut server).await, []);
}

#[tokio::test]
async fn each_key_of_a_batch_leaves_its_row() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    for op in [put("v"), put_if(Condition::Absent, "v"), Op::Remove { tombstone_ttl: HOUR }] {
        let first =
            if matches!(op, Op::Put { order: Order::Author(Condition::Absent), .. }) { 50 } else { 0 };
        let batch = (first..first + 100).map(|number| (key(number), op.clone())).collect();
        let replies = tier.apply_many(batch).await;
        let mut left = keys(&mut connect(&url).await).await;
        left.sort_unstable();
        let expected = (first..).zip(&replies).filter_map(|(number, reply)| match reply {
            Ok(Reply::Refused(_)) => None,
            reply => Some((number, Some(version_of(reply.as_ref().expect("an answer"))))),
        });
        assert_eq!(left, expected.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn changes_of_copies_leave_rows_and_fills_do_not() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Cache);
    tier.ready().await.expect("ready");
    let mut server = connect(&url).await;
    let lease = || Op::Lease { token: Token::random(), ttl: HOUR, over: None, replaces: Token::NONE };
    let Reply::Miss(fence) = apply(&tier, 1, lease()).await else { panic!("a miss") };
    apply(&tier, 1, fill(fence)).await;
    assert_eq!(keys(&mut server).await, []);

    let written = version_of(&apply(&tier, 1, put("w")).await);
    assert_eq!(keys(&mut server).await, [(1, Some(written))]);
    // Each writes a row, even if it does not change the cell: a near tier may have another copy.
    let older = Version::from_u64(7);
    apply(&tier, 1, Op::Invalidate { version: Some(older), tombstone_ttl: HOUR }).await;
    apply(&tier, 2, Op::Invalidate { version: None, tombstone_ttl: HOUR }).await;
    let Op::Put { deadlines, body, tombstone_ttl, .. } = put("late") else { panic!("a put") };
    apply(&tier, 1, Op::Put { order: Order::Follow(older), deadlines, body, tombstone_ttl }).await;
    apply(&tier, 1, Op::Expire { deadlines: Deadlines::forever(Timestamp::from_millis(2)) }).await;
    assert_eq!(keys(&mut server).await, [(1, Some(7)), (2, None), (1, Some(7)), (1, None)]);
    tier.clear().await.expect("a clear");
    assert_eq!(rows(&mut server).await, [("users".to_owned(), String::new(), None, None)]);
}

#[tokio::test]
async fn copies_without_an_order_have_no_log() {
    let url = shared_postgres().await.expect("a server");
    let unfenced = namespace(Role::Cache).with_level(Level::Ttl);
    let tier = Postgres::new(&url).expect("a URL").open(&unfenced).expect("a tier");
    assert!(tier.log().is_none());
    let Op::Put { deadlines, body, tombstone_ttl, .. } = put("v") else { panic!("a put") };
    apply(&tier, 1, Op::Put { order: Order::Unfenced(Version::from_u64(9)), deadlines, body, tombstone_ttl })
        .await;
    assert_eq!(rows(&mut connect(&url).await).await, []);
}

#[tokio::test]
async fn what_is_rolled_back_leaves_no_row() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    apply(&tier, 1, put("v")).await;
    let mut server = connect(&url).await;
    keys(&mut server).await;
    let mut transaction = server.begin().await.expect("a transaction");
    sqlx::query("UPDATE terrace.records SET body = 'x'").execute(&mut *transaction).await.expect("an update");
    sqlx::query("SELECT terrace.invalidate('users', NULL, terrace.key(7))")
        .execute(&mut *transaction)
        .await
        .expect("an invalidation");
    transaction.rollback().await.expect("a rollback");
    assert_eq!(keys(&mut server).await, []);

    // A write fails half way. The trigger stands for any error after the upsert.
    run(
        &url,
        "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
         CREATE TRIGGER fails AFTER UPDATE ON terrace.records FOR EACH ROW EXECUTE FUNCTION fails()",
    )
    .await;
    assert!(tier.apply(&key(1), put("w")).await.is_err());
    assert!(tier.apply(&key(1), Op::Remove { tombstone_ttl: HOUR }).await.is_err());
    assert_eq!(keys(&mut server).await, []);
}

#[tokio::test]
async fn sql_by_hand_on_records_leaves_rows_of_its_own() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    for number in 1..4 {
        apply(&tier, number, put("v")).await;
    }
    apply(&tier, 4, Op::Remove { tombstone_ttl: HOUR }).await;
    let mut server = connect(&url).await;
    rows(&mut server).await;
    let new_key = "UPDATE terrace.records SET key = int8send(9) WHERE key = int8send(1)";
    run(&url, "UPDATE terrace.records SET body = 'x' WHERE key <= int8send(2) AND state = 'V'").await;
    let mut left = keys(&mut server).await;
    left.sort_unstable();
    assert_eq!(left, [(1, None), (2, None)]);
    run(&url, new_key).await;
    assert_eq!(keys(&mut server).await, [(1, None), (9, None)], "the old and the new key");
    run(&url, "DELETE FROM terrace.records WHERE key = int8send(2) OR state = 'T'").await;
    assert_eq!(keys(&mut server).await, [(2, None)], "no process has a copy of a removed record");
    run(
        &url,
        "INSERT INTO terrace.records SELECT space, '\\x00', int8send(7), 'V', 1, NULL, NULL, 1, -1, -1, -1, 'x'
         FROM terrace.records LIMIT 1",
    )
    .await;
    assert_eq!(keys(&mut server).await, [(7, None)]);
    run(&url, "TRUNCATE terrace.records").await;
    assert_eq!(rows(&mut server).await, [("users".to_owned(), String::new(), None, None)]);
    // The library's statement sets `terrace.logs`, and the setting ends with the statement.
    let mut transaction = server.begin().await.expect("a transaction");
    sqlx::query(
        "SELECT terrace.store_put(id, '{\\\\x01}', '{\\\\x0000000000000005}', '{NULL}', '{1}', '{-1}', '{-1}', '{-1}', '{x}')
         FROM terrace.spaces",
    )
    .execute(&mut *transaction)
    .await
    .expect("a put");
    sqlx::query("UPDATE terrace.records SET body = 'y'").execute(&mut *transaction).await.expect("an update");
    transaction.commit().await.expect("a commit");
    let left = keys(&mut server).await;
    assert!(matches!(left[..], [(5, Some(_)), (5, None)]), "{left:?}");
}

#[tokio::test]
async fn any_client_may_say_that_a_key_has_changed() {
    let url = shared_postgres().await.expect("a server");
    open(&url, Role::Cache).ready().await.expect("ready");
    let mut server = connect(&url).await;
    run(
        &url,
        "SELECT terrace.invalidate('users', 'a\\c', terrace.key('ann')),
                terrace.invalidate('users', '', terrace.key(terrace.key(7), terrace.key('ann'))),
                terrace.invalidate('users', NULL, NULL)",
    )
    .await;
    let tuple = terrace_core::key::encode_key(&(7_u32, "ann".to_owned())).expect("a key").to_vec();
    let users = || "users".to_owned();
    let expected = [
        (users(), "a\\\\c".to_owned(), Some(b"ann".to_vec()), None),
        (users(), "\\e".to_owned(), Some(tuple), None),
        (users(), String::new(), None, None),
    ];
    assert_eq!(rows(&mut server).await, expected);
}

#[tokio::test]
async fn only_rows_that_a_snapshot_saw_ten_minutes_ago_are_deleted() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    let mut server = connect(&url).await;
    tier.ready().await.expect("ready");
    // This transaction begins before the snapshot and commits after it, so the snapshot did not see its row.
    let mut late = connect(&url).await;
    let mut late = late.begin().await.expect("a transaction");
    sqlx::query("SELECT terrace.invalidate('users', NULL, terrace.key(1))")
        .execute(&mut *late)
        .await
        .expect("a row");
    apply(&tier, 2, put("v")).await;
    let trim = async |server: &mut PgConnection| {
        let trim = sqlx::query_scalar::<_, i64>("SELECT terrace.trim_outbox(100)");
        trim.fetch_one(server).await.expect("a count")
    };
    assert_eq!(trim(&mut server).await, 0, "too young");
    apply(&tier, 3, put("v")).await;
    late.commit().await.expect("a commit");
    run(&url, "UPDATE terrace.outbox_snapshots SET taken_at = taken_at - interval '11 minutes'").await;
    assert_eq!(trim(&mut server).await, 1);
    let mut left: Vec<u64> = keys(&mut server).await.into_iter().map(|(key, _)| key).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 3]);
}
