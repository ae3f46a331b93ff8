//! Writes of concurrent callers share statements. Each is decided alone and answered alone.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection};
use support::{HOUR, connect, key, namespace, open, put, put_if, run};
use terrace_core::{Cache, NoNear, TierSettings};
use terrace_testbed::{Postgres as Server, Proxy, Stall, shared_postgres};
use terrace_tier::{Backend, Condition, Error, ErrorKind, Op, Reply, Role, Tier, TierKey, Token};
use terrace_tier_postgres::Postgres;
use tokio::task::JoinHandle;

type Answer = Result<Reply, Error>;

const CALLERS: u64 = 200;

/// Starts a task for each write.
fn start(tier: &Arc<dyn Tier>, writes: impl IntoIterator<Item = (TierKey, Op)>) -> Vec<JoinHandle<Answer>> {
    let spawn = |(key, op): (TierKey, Op)| {
        let tier = Arc::clone(tier);
        tokio::spawn(async move { tier.apply(&key, op).await })
    };
    writes.into_iter().map(spawn).collect()
}

async fn end(tasks: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("no panic"));
    }
    answers
}

fn puts(numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = (TierKey, Op)> {
    numbers.into_iter().map(|number| (key(number), put("v")))
}

fn is_kept(answer: &Answer) -> bool {
    matches!(answer, Ok(Reply::Kept(_)))
}

fn kinds(answers: Vec<Answer>) -> Vec<Result<(), ErrorKind>> {
    answers.into_iter().map(|answer| answer.map(drop).map_err(|error| error.kind())).collect()
}

/// How many transactions wrote the rows of `table` as they are now.
async fn transactions(url: &str, table: &str) -> i64 {
    let count = format!("SELECT count(DISTINCT xmin::text) FROM terrace.{table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut connect(url).await).await.expect("a count")
}

/// A session that holds the lock of the record of `number` until it rolls back.
async fn lock(url: &str, number: u64) -> PgConnection {
    let mut session = connect(url).await;
    sqlx::raw_sql("BEGIN").execute(&mut session).await.expect("begun");
    let locked = sqlx::query("SELECT FROM terrace.records WHERE digest = $1 FOR UPDATE")
        .bind(key(number).digest)
        .fetch_all(&mut session)
        .await
        .expect("the lock");
    assert_eq!(locked.len(), 1);
    session
}

async fn unlock(mut session: PgConnection) {
    sqlx::raw_sql("ROLLBACK").execute(&mut session).await.expect("rolled back");
    session.close().await.expect("closed");
}

#[tokio::test]
async fn writes_of_concurrent_callers_share_statements_and_each_is_in_the_outbox() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    tier.ready().await.expect("ready");
    let answers = end(start(&tier, puts(0..CALLERS))).await;
    assert!(answers.iter().all(is_kept), "{answers:?}");
    // All callers run before the first reply comes: four go alone, and the others fit into one statement.
    let found = transactions(&url, "records").await;
    assert!(found <= 8, "{found} statements");
    let removes = (0..CALLERS).map(|number| (key(number), Op::Remove { tombstone_ttl: HOUR }));
    let answers = end(start(&tier, removes)).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Reply::Done { existed: true, .. }))));
    let found = transactions(&url, "records").await;
    assert!(found <= 8, "{found} statements");
    let (logged, keys): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT key) FROM terrace.outbox")
            .fetch_one(&mut connect(&url).await)
            .await
            .expect("counts");
    assert_eq!((logged, keys), (2 * CALLERS.cast_signed(), CALLERS.cast_signed()));
}

#[tokio::test]
async fn writes_of_one_key_are_in_the_outbox_in_the_order_of_their_versions() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    tier.ready().await.expect("ready");
    let answers = end(start(&tier, puts((0..CALLERS).map(|_| 7)))).await;
    assert!(answers.iter().all(is_kept), "{answers:?}");
    let logged: Vec<i64> = sqlx::query_scalar("SELECT version FROM terrace.outbox ORDER BY xid, id")
        .fetch_all(&mut connect(&url).await)
        .await
        .expect("versions");
    assert_eq!(logged.len() as u64, CALLERS);
    assert!(logged.windows(2).all(|pair| pair[0] < pair[1]), "{logged:?}");
}

#[tokio::test]
async fn a_batch_of_one_caller_is_one_statement() {
    let url = shared_postgres().await.expect("a server");
    let cache: Cache<u64, String, NoNear> = Cache::builder("numbers")
        .store(Postgres::new(&url).expect("a URL").budget(Duration::from_secs(10)))
        .build()
        .expect("a cache");
    let numbers: Vec<u64> = (0..100).collect();
    let put = cache.put_many(numbers.iter().map(|number| (*number, number.to_string()))).await;
    assert!(put.iter().all(Result::is_ok));
    assert_eq!(transactions(&url, "records").await, 1);
    assert!(cache.remove_many(&numbers).await.into_iter().all(|removed| removed.expect("removed")));
    assert_eq!(transactions(&url, "records").await, 1);
    let copies = namespace(Role::Cache).with_name("copies");
    let tier = Postgres::new(&url).expect("a URL").open(&copies).expect("a tier");
    let lease = || Op::Lease { token: Token::random(), ttl: HOUR, over: None, replaces: Token::NONE };
    let leases = tier.apply_many((0..100).map(|number| (key(number), lease())).collect()).await;
    assert_eq!(transactions(&url, "cache_entries").await, 1);
    let fill = |(number, leased): (u64, Answer)| match leased.expect("a lease") {
        Reply::Miss(fence) => {
            let Op::Put { deadlines, body, .. } = support::put("v") else { panic!("a put") };
            (key(number), Op::Fill { fence, version: fence.version, deadlines, body })
        }
        reply => panic!("{reply:?}"),
    };
    let fills = tier.apply_many((0..100).zip(leases).map(fill).collect()).await;
    assert!(fills.iter().all(is_kept));
    assert_eq!(transactions(&url, "cache_entries").await, 1);
}

#[tokio::test]
async fn a_write_that_the_server_refuses_fails_alone() {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, Role::Store);
    tier.ready().await.expect("ready");
    run(
        &url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION ''not this one''; END'; \
         CREATE TRIGGER refuse BEFORE INSERT ON terrace.records FOR EACH ROW \
             WHEN (NEW.key = int8send(7)) EXECUTE FUNCTION refuse()",
    )
    .await;
    let by_many_callers = end(start(&tier, puts(0..CALLERS))).await;
    let by_one_caller = tier.apply_many(puts(0..CALLERS).collect()).await;
    let answers = by_many_callers.into_iter().enumerate().chain(by_one_caller.into_iter().enumerate());
    for (number, answer) in answers {
        match number {
            7 => assert_eq!(answer.map_err(|error| error.kind()), Err(ErrorKind::Backend)),
            _ => assert!(is_kept(&answer), "{number}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_locked_row_holds_up_its_own_write_alone() {
    let url = shared_postgres().await.expect("a server");
    let postgres = Postgres::new(&url).expect("a URL");
    let tier = postgres.open(&namespace(Role::Store).with_budget(Duration::from_secs(3))).expect("a tier");
    tier.apply(&key(7), put("old")).await.expect("a record");
    let locked = lock(&url, 7).await;
    let by_many_callers = end(start(&tier, puts(0..CALLERS))).await;
    let by_one_caller = tier.apply_many(puts(0..50).collect()).await;
    let answers = by_many_callers.into_iter().enumerate().chain(by_one_caller.into_iter().enumerate());
    for (number, answer) in answers {
        match number {
            7 => assert_eq!(answer.map_err(|error| error.kind()), Err(ErrorKind::Unknown)),
            _ => assert!(is_kept(&answer), "{number}: {answer:?}"),
        }
    }
    unlock(locked).await;
}

#[tokio::test]
async fn what_was_not_sent_in_time_is_a_timeout_and_never_happens() {
    let url = shared_postgres().await.expect("a server");
    let postgres = Postgres::builder(&url).pool_size(1).build().expect("a URL");
    let tier = postgres.open(&namespace(Role::Store).with_budget(Duration::from_secs(1))).expect("a tier");
    tier.ready().await.expect("ready");
    let reader = open(&url, Role::Store);
    reader.apply(&key(0), put("old")).await.expect("a record");
    let locked = lock(&url, 0).await;
    // The first write takes the only connection and waits for the lock. The others wait for the connection.
    let tasks = start(&tier, [(key(0), put("new"))].into_iter().chain(puts(1..20)));
    let mut answers = kinds(end(tasks).await);
    assert_eq!(answers.remove(0), Err(ErrorKind::Unknown));
    assert_eq!(answers, vec![Err(ErrorKind::Timeout); 19]);
    unlock(locked).await;
    while tier.apply(&key(20), put("v")).await.is_err() {}
    for number in 1..20 {
        let found = reader.apply(&key(number), Op::Get).await;
        assert!(matches!(found, Ok(Reply::Miss(_))), "{number}: {found:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_each_write_of_its_statement_unknown() {
    let server = Server::start().await.expect("a server");
    let proxy = Proxy::start(server.port()).expect("a proxy");
    let url = server.url().replace(&format!(":{}", server.port()), &format!(":{}", proxy.port()));
    let tier = open(&url, Role::Store);
    tier.apply(&key(0), put("v")).await.expect("a record");
    // Eight writes wait for one lock at once, so all connections of the pool are open afterwards.
    let locked = lock(&server.url(), 0).await;
    let tasks = start(&tier, puts((0..8).map(|_| 0)));
    let mut watching = connect(&server.url()).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watching).await.expect("a count") < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unlock(locked).await;
    assert!(end(tasks).await.iter().all(is_kept));
    proxy.stall(Stall::Replies);
    let tasks = start(&tier, puts(0..100));
    let written = "SELECT count(*) FROM terrace.outbox";
    // Four writes go alone. The statement of the others waits for the server to prepare it.
    let expected = 1 + 8 + 4;
    while sqlx::query_scalar::<_, i64>(written).fetch_one(&mut watching).await.expect("a count") < expected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.cut().await;
    proxy.resume();
    assert_eq!(kinds(end(tasks).await), vec![Err(ErrorKind::Unknown); 100]);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_refuses_each_of_them_as_read_only() {
    let server = Server::start().await.expect("a server");
    let tier = open(&server.url(), Role::Store);
    tier.apply(&key(1), put("v")).await.expect("a record");
    server.read_only(true).await.expect("read-only");
    let answers = kinds(end(start(&tier, puts(0..CALLERS))).await);
    assert!(answers.iter().all(|answer| *answer == Err(ErrorKind::ReadOnly)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_overlap_across_handles_never_deadlock() {
    for role in [Role::Store, Role::Cache] {
        let url = shared_postgres().await.expect("a server");
        let tiers = [open(&url, role), open(&url, role)];
        for round in 0..5 {
            let mut tasks = Vec::new();
            for (at, tier) in tiers.iter().enumerate() {
                let mut numbers: Vec<u64> = (0..CALLERS).map(|number| number % 90).collect();
                fastrand::Rng::with_seed(round * 2 + at as u64).shuffle(&mut numbers);
                let op = |number: u64| match number % 3 {
                    0 => put("v"),
                    1 => put_if(Condition::Absent, "v"),
                    _ => Op::Remove { tombstone_ttl: HOUR },
                };
                tasks.extend(start(tier, numbers.into_iter().map(|number| (key(number), op(number)))));
            }
            for answer in end(tasks).await {
                answer.expect("no deadlock");
            }
        }
    }
}
