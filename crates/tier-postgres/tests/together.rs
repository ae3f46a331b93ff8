//! Many callers and processes at once, and the views and functions for operators.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{sync::Arc, time::Duration};

use sqlx::{Connection, Row};
use support::{HOUR, connect, key, namespace, open, put, put_if, run};
use terrace_testbed::shared_postgres;
use terrace_tier::{
    Backend, Condition, Deadlines, Error, ErrorKind, Fence, Level, Namespace, Op, Reply, Role, Timestamp,
    Token,
};
use terrace_tier_postgres::Postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_never_deadlock() {
    for role in [Role::Store, Role::Cache] {
        let url = shared_postgres().await.expect("a server");
        let tiers = [open(&url, role), open(&url, role)];
        let workers = (0..8_u64).map(|worker| {
            let tier = Arc::clone(&tiers[usize::from(worker % 2 == 0)]);
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(worker);
                for _ in 0..25 {
                    let mut numbers: Vec<u64> = (0..200).collect();
                    random.shuffle(&mut numbers);
                    numbers.truncate(120);
                    let op = match random.u8(0..5) {
                        0 | 1 => put("v"),
                        2 => put_if(Condition::Absent, "v"),
                        3 => Op::Remove { tombstone_ttl: HOUR },
                        _ => {
                            Op::Lease { token: Token::random(), ttl: HOUR, over: None, replaces: Token::NONE }
                        }
                    };
                    let batch = numbers.into_iter().map(|number| (key(number), op.clone())).collect();
                    for reply in tier.apply_many(batch).await {
                        reply.expect("no deadlock");
                    }
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("no panic");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fills_that_race_across_handles_one_wins() {
    let url = shared_postgres().await.expect("a server");
    let tiers = [open(&url, Role::Cache), open(&url, Role::Cache)];
    for number in 0..50 {
        let lease = Op::Lease { token: Token::random(), ttl: HOUR, over: None, replaces: Token::NONE };
        let Ok(Reply::Miss(fence)) = tiers[0].apply(&key(number), lease).await else {
            panic!("a lease on an absent key");
        };
        let fill = |fence: Fence| Op::Fill {
            fence,
            version: fence.version,
            deadlines: Deadlines::forever(Timestamp::from_millis(1)),
            body: None,
        };
        let fills = (0..4_usize).map(|index| {
            let (tier, op) = (Arc::clone(&tiers[index % 2]), fill(fence));
            tokio::spawn(async move { tier.apply(&key(number), op).await })
        });
        let mut kept = 0;
        for filled in fills.collect::<Vec<_>>() {
            let reply = filled.await.expect("no panic").expect("an answer");
            kept += usize::from(matches!(reply, Reply::Kept(_)));
        }
        assert_eq!(kept, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_writes_at_once_wait_for_eight_connections_within_the_budget() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    let puts = (0..4000).map(|number| {
        let tier = Arc::clone(&tier);
        tokio::spawn(async move { tier.apply(&key(number), put("v")).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.expect("no panic").expect("within the budget");
    }
    let connections: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_one(&mut connect(&url).await)
    .await
    .expect("a count");
    assert!(connections <= 8, "{connections}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_may_start_at_once() {
    let url = shared_postgres().await.expect("a server");
    let starts = (0..12).map(|_| {
        let tier = open(&url, Role::Store);
        tokio::spawn(async move { tier.ready().await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.expect("no panic").expect("ready");
    }
}

#[tokio::test]
async fn all_processes_must_use_a_namespace_with_the_same_options() {
    let url = shared_postgres().await.expect("a server");
    let ready = async |change: fn(&mut Namespace)| {
        let mut users = namespace(Role::Store);
        change(&mut users);
        let tier = Postgres::new(&url).expect("a URL").open(&users).expect("a tier");
        tier.ready().await.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(ready(|_| {}).await, Ok(()));
    assert_eq!(ready(|_| {}).await, Ok(()));
    assert_eq!(ready(|users| users.role = Role::Cache).await, Err(ErrorKind::NamespaceInUse));
    assert_eq!(ready(|users| users.level = Level::Strong).await, Err(ErrorKind::NamespaceInUse));
    // Versions of the program with other value types run at once, forward and back.
    assert_eq!(ready(|users| (users.schema, users.shape) = (2, 8)).await, Ok(()));
    assert_eq!(ready(|_| {}).await, Ok(()));
    run(&url, "SELECT terrace.forget_terms('users')").await;
    assert_eq!(ready(|_| {}).await, Ok(()));
}

#[tokio::test]
async fn copies_above_the_limit_are_too_large_and_records_are_not() {
    let url = shared_postgres().await.expect("a server");
    let handle = || Postgres::builder(&url).max_value_bytes(3).build().expect("a URL");
    let copies = namespace(Role::Cache).with_name("copies");
    let cache = handle().open(&copies).expect("a tier");
    let store = handle().open(&namespace(Role::Store)).expect("a tier");
    let kind = |reply: Result<Reply, Error>| reply.map_err(|error| error.kind());
    assert_eq!(kind(cache.apply(&key(1), put("four")).await), Err(ErrorKind::TooLarge));
    let batch = ["one", "four", "two", "four", "six"].into_iter().enumerate();
    let batch = batch.map(|(number, body)| (key(number as u64), put(body))).collect();
    let replies: Vec<_> = cache.apply_many(batch).await.into_iter().map(kind).collect();
    for (number, reply) in replies.iter().enumerate() {
        let refused = reply == &Err(ErrorKind::TooLarge);
        assert!(if number % 2 == 1 { refused } else { reply.is_ok() }, "{number} {reply:?}");
    }
    assert!(store.apply(&key(1), put("four")).await.is_ok());
}

#[tokio::test]
async fn stats_tell_what_each_namespace_keeps() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Cache);
    for number in 0..3 {
        tier.apply(&key(number), put("12345")).await.expect("a copy");
    }
    let lease = Op::Lease { token: Token::random(), ttl: HOUR, over: None, replaces: Token::NONE };
    tier.apply(&key(3), lease).await.expect("a lease");
    tier.apply(&key(2), Op::Invalidate { version: None, tombstone_ttl: HOUR })
        .await
        .expect("an invalidation");
    let row = sqlx::query("SELECT namespace, tenant, role, entries, live, negative, leases, tombstones, bytes FROM terrace.stats")
        .fetch_one(&mut connect(&url).await)
        .await
        .expect("one row");
    assert_eq!(row.get::<&str, _>(0), "users");
    assert_eq!(row.get::<Option<&str>, _>(1), None);
    assert_eq!(row.get::<&str, _>(2), "cache");
    let counts: Vec<i64> = (3..9).map(|column| row.get(column)).collect();
    assert_eq!(counts, [4, 2, 0, 1, 1, 10]);
    let indexes = sqlx::query("SELECT * FROM terrace.index_usage").fetch_all(&mut connect(&url).await).await;
    assert!(indexes.expect("a view").len() >= 5);
}

#[tokio::test]
async fn old_copies_are_cleaned_up_and_records_never() {
    let clean_ups = [
        "SELECT terrace.cleanup_old_cache_entries(30)",
        "CALL terrace.cleanup_old_cache_entries_in_batches(30)",
    ];
    for clean_up in clean_ups {
        let url = shared_postgres().await.expect("a server");
        let store = open(&url, Role::Store);
        let copies = namespace(Role::Cache).with_name("copies");
        let cache = Postgres::new(&url).expect("a URL").open(&copies).expect("a tier");
        let mut connection = connect(&url).await;
        let now = sqlx::query_scalar::<_, i64>("SELECT (extract(epoch FROM now()) * 1000)::bigint")
            .fetch_one(&mut connection)
            .await
            .expect("a time");
        let young = Deadlines::forever(Timestamp::from_millis(now.cast_unsigned()));
        for tier in [&store, &cache] {
            // A hundred are new, and the rest were written in 1970.
            let batch = (0..2500).map(|number| {
                let Op::Put { order, body, tombstone_ttl, deadlines } = put("v") else { panic!("a put") };
                let deadlines = if number < 100 { young } else { deadlines };
                (key(number), Op::Put { order, body, tombstone_ttl, deadlines })
            });
            assert!(tier.apply_many(batch.collect()).await.iter().all(Result::is_ok));
        }
        let deleted: i64 = sqlx::query_scalar(clean_up).fetch_one(&mut connection).await.expect("a count");
        assert_eq!(deleted, 2400, "{clean_up}");
        let left: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM terrace.cache_entries), (SELECT count(*) FROM terrace.records)",
        )
        .fetch_one(&mut connection)
        .await
        .expect("counts");
        assert_eq!(left, (100, 2500), "{clean_up}");
        connection.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_clear_deletes_the_dead_rows_in_the_background() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Cache);
    let batch = (0..2500).map(|number| (key(number), put("v"))).collect();
    assert!(tier.apply_many(batch).await.iter().all(Result::is_ok));
    tier.clear().await.expect("a clear");
    assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Miss(_))));
    tier.apply(&key(1), put("new")).await.expect("a copy");
    let mut connection = connect(&url).await;
    let count = "SELECT count(*) FROM terrace.cache_entries";
    for _ in 0..500 {
        let left: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("a count");
        if left == 1 {
            assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the dead rows are still there");
}
