//! Writes of concurrent callers share transactions. Each is decided alone and answered alone.
#![allow(clippy::expect_used, reason = "a failed preparation fails the test")]

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use terrace_tier::{
    Backend, Condition, Deadlines, Error, ErrorKind, Namespace, Op, Order, Reply, Role, Tier, TierKey,
    Timestamp, Token, Version,
};
use terrace_tier_sqlite::Sqlite;

const CALLERS: u64 = 200;
const HOUR: Duration = Duration::from_secs(3600);

type Answer = Result<Reply, Error>;

fn open(path: &Path, role: Role, budget: Duration) -> Arc<dyn Tier> {
    let namespace = Namespace::new("users", role).with_type(1, 7).with_budget(budget);
    Sqlite::file(path).expect("the only handle").open(&namespace).expect("a tier")
}

fn key(number: u64) -> TierKey {
    let mut digest = [0; 16];
    digest[8..].copy_from_slice(&number.to_be_bytes());
    TierKey { bytes: Bytes::copy_from_slice(&number.to_be_bytes()), digest }
}

fn put() -> Op {
    Op::Put {
        order: Order::Author(Condition::Always),
        deadlines: Deadlines::forever(Timestamp::from_millis(1)),
        body: Some(Bytes::from_static(b"v")),
        tombstone_ttl: HOUR,
    }
}

fn puts(numbers: impl IntoIterator<Item = u64>) -> Vec<(TierKey, Op)> {
    numbers.into_iter().map(|number| (key(number), put())).collect()
}

/// The answers to writes of many callers at once.
async fn at_once(tier: &Arc<dyn Tier>, writes: Vec<(TierKey, Op)>) -> Vec<Answer> {
    let spawn = |(key, op): (TierKey, Op)| {
        let tier = Arc::clone(tier);
        tokio::spawn(async move { tier.apply(&key, op).await })
    };
    let tasks: Vec<_> = writes.into_iter().map(spawn).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("no panic"));
    }
    answers
}

fn is_kept(answer: &Answer) -> bool {
    matches!(answer, Ok(Reply::Kept(_)))
}

fn kind(answer: &Answer) -> Option<ErrorKind> {
    answer.as_ref().err().map(Error::kind)
}

/// A connection of another program.
async fn other_program(path: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.expect("a connection")
}

/// How many transactions the write-ahead log holds: the last frame of each has the size of the database.
fn transactions(path: &Path) -> usize {
    let log = std::fs::read(path.with_extension("db-wal")).expect("a write-ahead log");
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes"));
    let (page, salts) = (number(8) as usize, &log[16..24]);
    let frames = (32..).step_by(24 + page).take_while(|at| at + 24 + page <= log.len());
    frames.filter(|at| &log[at + 8..at + 16] == salts && number(at + 4) > 0).count()
}

#[tokio::test]
async fn a_batch_of_one_caller_is_one_transaction_and_many_callers_share_few() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let tier = open(&path, Role::Cache, HOUR);
    tier.ready().await.expect("ready");
    let lease = || Op::Lease { token: Token::random(), ttl: HOUR, over: None, replaces: Token::NONE };
    let fill = |(number, leased): (u64, &Answer)| match leased {
        Ok(Reply::Miss(fence)) => {
            let deadlines = Deadlines::forever(Timestamp::from_millis(1));
            (key(number), Op::Fill { fence: *fence, version: fence.version, deadlines, body: None })
        }
        answer => panic!("{answer:?}"),
    };
    let remove = || Op::Remove { tombstone_ttl: HOUR };
    let before = transactions(&path);
    let leases = tier.apply_many((0..100).map(|number| (key(number), lease())).collect()).await;
    assert_eq!(transactions(&path) - before, 1, "leases");
    let fills = tier.apply_many((0..100).zip(&leases).map(fill).collect()).await;
    assert!(fills.iter().all(is_kept));
    assert_eq!(transactions(&path) - before, 2, "fills");
    assert!(tier.apply_many(puts(0..100)).await.iter().all(is_kept));
    assert_eq!(transactions(&path) - before, 3, "puts");
    let removes = tier.apply_many((0..100).map(|number| (key(number), remove())).collect()).await;
    assert!(removes.iter().all(|answer| matches!(answer, Ok(Reply::Done { existed: true, .. }))));
    assert_eq!(transactions(&path) - before, 4, "removes");
    let before = transactions(&path);
    // Each of them writes one key, and another one too.
    let answers = at_once(&tier, puts((0..CALLERS).map(|number| number % 150))).await;
    let versions = answers.iter().enumerate().map(|(number, answer)| match answer {
        Ok(Reply::Kept(version)) => (number % 150, *version),
        answer => panic!("{answer:?}"),
    });
    let versions: HashSet<(usize, Version)> = versions.collect();
    assert_eq!(versions.len(), answers.len(), "no two writes of a key have one version");
    let found = transactions(&path) - before;
    assert!(found <= 8, "{found} transactions");
}

#[tokio::test]
async fn a_write_that_sqlite_refuses_fails_alone() {
    for how in ["ABORT", "ROLLBACK"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("terrace.db");
        let tier = open(&path, Role::Store, HOUR);
        tier.ready().await.expect("ready");
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON cells WHEN NEW.key = x'0000000000000007' \
             BEGIN SELECT RAISE({how}, 'not this one'); END"
        );
        other_program(&path).await.execute(sqlx::AssertSqlSafe(trigger)).await.expect("a trigger");
        let by_many_callers = at_once(&tier, puts(0..CALLERS)).await;
        let by_one_caller = tier.apply_many(puts(0..CALLERS)).await;
        for (number, answer) in by_many_callers.iter().enumerate().chain(by_one_caller.iter().enumerate()) {
            match number {
                7 => assert_eq!(kind(answer), Some(ErrorKind::Backend), "{how}"),
                _ => assert!(is_kept(answer), "{how} {number}: {answer:?}"),
            }
        }
        let all = tier.apply_many((0..CALLERS).map(|number| (key(number), Op::Get)).collect()).await;
        let hits = all.iter().filter(|answer| matches!(answer, Ok(Reply::Hit(_)))).count();
        assert_eq!(hits, all.len() - 1, "{how}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_the_calls_of_its_own_key_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let tier = open(&path, Role::Store, HOUR);
    assert!(tier.apply_many(puts(0..CALLERS)).await.iter().all(is_kept));
    let damage = "UPDATE cells SET cell = x'00' WHERE key = x'0000000000000007'";
    other_program(&path).await.execute(damage).await.expect("damaged");
    let gets = (0..CALLERS).map(|number| (key(number), Op::Get)).collect();
    for answers in [
        at_once(&tier, puts(0..CALLERS)).await,
        tier.apply_many(puts(0..CALLERS)).await,
        tier.apply_many(gets).await,
    ] {
        for (number, answer) in answers.iter().enumerate() {
            let expected = (number == 7).then_some(ErrorKind::Undecodable);
            assert_eq!(kind(answer), expected, "{number}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_had_not_begun_in_time_is_a_timeout_and_never_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    let tier = open(&path, Role::Store, Duration::from_millis(150));
    tier.ready().await.expect("ready");
    let mut other = other_program(&path).await;
    other.execute("BEGIN IMMEDIATE").await.expect("the lock");
    // The first write waits for the lock of the file, and the others wait for the first one.
    let answers = at_once(&tier, puts(0..20)).await;
    assert_eq!(kind(&answers[0]), Some(ErrorKind::Unknown), "{answers:?}");
    let timeouts = answers[1..].iter().filter(|answer| kind(answer) == Some(ErrorKind::Timeout));
    assert_eq!(timeouts.count(), 19, "{answers:?}");
    let batch = tier.apply_many(puts(20..30)).await;
    assert!(batch.iter().all(|answer| kind(answer) == Some(ErrorKind::Timeout)), "{batch:?}");
    other.execute("ROLLBACK").await.expect("the lock released");
    while tier.apply(&key(30), put()).await.is_err() {}
    for number in 1..30 {
        let found = tier.apply(&key(number), Op::Get).await;
        assert!(matches!(found, Ok(Reply::Miss(_))), "{number}: {found:?}");
    }
}
