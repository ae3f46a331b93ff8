//! A pool of the application: which connections the tier holds, and when they go back.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use support::{key, namespace, put};
use terrace_core::{Cache, NoNear};
use terrace_testbed::shared_postgres;
use terrace_tier::{Backend, ErrorKind, Op, Reply, Role, Tier};
use terrace_tier_postgres::Postgres;
use tokio::time::timeout;

/// Far longer than a connection may be held, and far shorter than any timeout of sqlx.
const SOON: Duration = Duration::from_secs(5);

/// A tier with a record over a pool, and the number of connections that went back to the pool.
async fn over(connections: u32) -> (Arc<dyn Tier>, PgPool, Arc<AtomicUsize>) {
    let url = shared_postgres().await.expect("a server");
    let returned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&returned);
    let options = PgPoolOptions::new().max_connections(connections).after_release(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(true) })
    });
    let pool = options.connect(&url).await.expect("a pool");
    let tier = Postgres::from_pool(pool.clone()).open(&namespace(Role::Store)).expect("a tier");
    tier.ping().await.expect("a ping");
    tier.apply(&key(1), put("v")).await.expect("a record");
    (tier, pool, returned)
}

async fn read(tier: &Arc<dyn Tier>) {
    assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, waiting).await.expect("in time");
}

#[tokio::test]
async fn statements_one_after_the_other_use_one_connection_which_then_goes_back() {
    let (tier, pool, returned) = over(8).await;
    until(|| pool.num_idle() == pool.size() as usize).await;
    let before = returned.load(Ordering::Relaxed);
    for _ in 0..500 {
        read(&tier).await;
    }
    // If the machine stalls for a moment, the connection may go back in between.
    let in_between = returned.load(Ordering::Relaxed) - before;
    assert!(in_between < 50, "{in_between}");
    until(|| pool.num_idle() == pool.size() as usize).await;
}

#[tokio::test]
async fn a_small_pool_has_its_connections_back_after_each_statement() {
    let (tier, pool, returned) = over(2).await;
    until(|| pool.num_idle() == pool.size() as usize).await;
    let before = returned.load(Ordering::Relaxed);
    for read_so_far in 1..=10 {
        read(&tier).await;
        until(|| returned.load(Ordering::Relaxed) == before + read_so_far).await;
    }
}

#[tokio::test]
async fn an_application_that_wants_all_its_connections_gets_them() {
    let (tier, pool, _) = over(4).await;
    let mut mine = Vec::new();
    for _ in 0..4 {
        read(&tier).await;
        mine.push(timeout(SOON, pool.acquire()).await.expect("in time").expect("a connection"));
        mine.truncate(3);
    }
    read(&tier).await;
    let all = timeout(SOON, pool.acquire()).await.expect("in time");
    all.expect("the last connection");
}

#[tokio::test]
async fn a_pool_that_is_closed_is_closed_soon() {
    let (tier, pool, _) = over(8).await;
    read(&tier).await;
    timeout(SOON, pool.close()).await.expect("held connections go back");
    assert!(tier.apply(&key(1), Op::Get).await.is_err());
}

#[test]
fn a_pool_outlives_the_runtime_that_used_it_first() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let (tier, pool, _) = second.block_on(over(8));
    first.block_on(read(&tier));
    first.shutdown_background();
    second.block_on(async {
        until(|| pool.num_idle() == pool.size() as usize).await;
        read(&tier).await;
    });
}

fn over_store(postgres: &Postgres) -> Cache<i64, String, NoNear> {
    Cache::builder("users").store(postgres.clone()).build().expect("a cache")
}

#[tokio::test]
async fn a_pool_whose_only_connection_is_in_a_transaction_does_not_wait_for_itself() {
    let url = shared_postgres().await.expect("a server");
    Postgres::new(&url).expect("a handle").prepare().await.expect("the schema");
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.expect("a pool");
    // This handle has not used the server before.
    let postgres = Postgres::from_pool(pool.clone());
    let mut transaction = pool.begin().await.expect("a transaction");
    let cache = over_store(&postgres);
    let invalidate = postgres.invalidate_in(&mut transaction, &cache, &7);
    let pending = timeout(SOON, invalidate).await.expect("in time").expect("a row of the outbox");
    transaction.commit().await.expect("a commit");
    pending.committed().await.expect("dropped");
    let rows = "SELECT count(*) FROM terrace.outbox WHERE namespace = 'users'";
    assert_eq!(sqlx::query_scalar::<_, i64>(rows).fetch_one(&pool).await.expect("a count"), 1);
}

#[tokio::test]
async fn a_cache_that_does_not_follow_the_log_is_refused_before_anything_is_sent() {
    let url = shared_postgres().await.expect("a server");
    let pool = PgPoolOptions::new().max_connections(2).connect(&url).await.expect("a pool");
    let postgres = Postgres::from_pool(pool.clone());
    let alone: Cache<i64, String, NoNear> = Cache::builder("users").build().expect("a cache");
    let copies = Cache::<i64, String, NoNear>::builder("users").tier(postgres.clone()).build();
    let mut transaction = pool.begin().await.expect("a transaction");
    for cache in [alone, copies.expect("a cache")] {
        let refused = postgres.invalidate_in(&mut transaction, &cache, &7).await.expect_err("no follower");
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        assert_eq!((refused.cache(), refused.operation()), (Some("users"), Some("invalidate_in")));
    }
    transaction.commit().await.expect("no statement failed");
}

#[tokio::test]
async fn a_pool_without_a_connection_to_make_the_schema_on_says_so() {
    let url = shared_postgres().await.expect("a server");
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(200));
    let pool = options.connect(&url).await.expect("a pool");
    let postgres = Postgres::from_pool(pool.clone());
    let cache = over_store(&postgres);
    let mut transaction = pool.begin().await.expect("a transaction");
    let refused = postgres.invalidate_in(&mut transaction, &cache, &7).await.expect_err("no connection");
    assert_eq!(refused.kind(), ErrorKind::Timeout);
    assert!(refused.to_string().contains("Postgres::prepare"), "{refused}");
    // The transaction has not failed.
    sqlx::query("SELECT 1").execute(&mut *transaction).await.expect("a statement");
    transaction.rollback().await.expect("a rollback");
    postgres.prepare().await.expect("now there is one");
}

/// Ends all sessions of the database except the session of `server`.
async fn end_sessions(server: &mut PgConnection) {
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(all).execute(server).await.expect("ended");
}

#[tokio::test]
async fn held_connections_that_the_server_ended_fail_once_and_hold_up_nobody() {
    let (tier, pool, _) = over(8).await;
    let mut server = PgConnection::connect_with(&pool.connect_options()).await.expect("a connection");
    join_all((0..8).map(async |_| tier.apply(&key(1), Op::Get).await)).await;
    end_sessions(&mut server).await;
    let mut failed = 0;
    for _ in 0..20 {
        match timeout(SOON, tier.apply(&key(1), Op::Get)).await.expect("in time") {
            Ok(reply) => assert!(matches!(reply, Reply::Hit(_))),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed <= 2, "{failed} failed, and at most two connections are held");
}

#[test]
fn a_connection_held_while_its_runtime_stood_still_is_tested_before_its_use() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (used_now_and_then, other) = (runtime(), runtime());
    let (tier, pool, _) = used_now_and_then.block_on(over(8));
    used_now_and_then.block_on(read(&tier));
    other.block_on(async {
        let mut server = PgConnection::connect_with(&pool.connect_options()).await.expect("a connection");
        end_sessions(&mut server).await;
    });
    std::thread::sleep(Duration::from_millis(1_100));
    used_now_and_then.block_on(read(&tier));
}
