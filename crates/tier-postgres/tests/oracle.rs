//! The functions in the database give the same replies and rows as the pure `transition`, operation by
//! operation, on random histories.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use sqlx::{PgConnection, Row};
use support::{HOUR, connect, key, open};
use terrace_testbed::shared_postgres;
use terrace_tier::{
    Cell, Change, Condition, Deadlines, Epoch, Fence, Moment, Op, Order, Reply, Role, State, TierKey,
    Timestamp, Token, Version, transition,
};

const STEPS: usize = 1500;
const KEYS: u64 = 8;

#[tokio::test]
async fn the_store_follows_the_transition() {
    follows_the_transition(Role::Store, 0x5eed).await;
}

#[tokio::test]
async fn the_cache_follows_the_transition() {
    follows_the_transition(Role::Cache, 0xcafe).await;
}

async fn follows_the_transition(role: Role, seed: u64) {
    let url = shared_postgres().await.expect("a server");
    let tier = open(&url, role);
    tier.ready().await.expect("ready");
    let mut server = connect(&url).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fences = vec![Fence::default()];
    for step in 0..STEPS {
        let key = key(random.u64(0..KEYS));
        if random.u8(..) < 4 {
            delete_cell(&mut server, role, &key).await;
        }
        if random.u8(..) < 2 {
            tier.clear().await.expect("a clear");
            swept(&mut server).await;
        }
        let before = row(&mut server, role, &key).await;
        let (epoch, start) = server_now(&mut server, role).await;
        let op = operation(&mut random, before.as_ref(), &fences, start);
        let reply = tier.apply(&key, op.clone()).await.expect("an answer");
        let (_, end) = server_now(&mut server, role).await;
        let after = row(&mut server, role, &key).await;
        // The server read its clock between start and end; its reply and its row show when.
        let micros = moments(&reply, after.as_ref(), start, end);
        // The cleaner, which a clear wakes, may delete a dead row before or after the operation.
        let ended = Timestamp::from_millis(end / 1000);
        let dead =
            |cell: &Cell| (role == Role::Cache && cell.epoch != epoch) || cell.deadlines.is_expired(ended);
        let befores = [before.clone(), before.clone().filter(|cell| !dead(cell))];
        let agreed = micros.iter().flat_map(|micros| befores.iter().map(move |before| (before, micros))).any(
            |(before, micros)| {
                let now = Timestamp::from_millis(micros / 1000);
                let moment = Moment::new(role, now, *micros, epoch);
                let (change, expected) = transition(before.as_ref(), &op, &moment);
                let cell = match change {
                    Change::Keep => before.clone(),
                    Change::Write(cell) => Some(cell),
                };
                let same_cell = cell == after || (after.is_none() && cell.as_ref().is_some_and(dead));
                same_cell && (expected == reply || without_winner(role, &expected) == reply)
            },
        );
        let now = Timestamp::from_millis(start / 1000);
        let moment = Moment::new(role, now, start, epoch);
        assert!(
            agreed,
            "seed {seed:x} step {step} {role:?}\n{op:?}\nbefore {before:?}\nafter  {after:?}\nreply  {reply:?}\n\
             expected about {:?}",
            transition(before.as_ref(), &op, &moment)
        );
        if let Reply::Miss(fence) = reply {
            fences.push(fence);
        }
    }
}

/// Waits until the cleaner, which the clear woke, has deleted the dead rows.
async fn swept(server: &mut PgConnection) {
    let unswept = "SELECT count(*) FROM terrace.spaces WHERE sweep";
    while sqlx::query_scalar::<_, i64>(unswept).fetch_one(&mut *server).await.expect("a count") > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A cache tier may leave out the value that won against a refused fill.
fn without_winner(role: Role, reply: &Reply) -> Reply {
    match reply {
        Reply::Refused(_) if role == Role::Cache => Reply::Refused(None),
        other => other.clone(),
    }
}

/// The times between `start` and `end` that the server may have read.
fn moments(reply: &Reply, after: Option<&Cell>, start: u64, end: u64) -> Vec<u64> {
    let replied = match reply {
        Reply::Kept(version) | Reply::Done { version, .. } => version.as_u64(),
        Reply::Miss(fence) => fence.version.as_u64(),
        _ => start,
    };
    let written = after.map_or(start, |cell| cell.deadlines.written.as_millis().saturating_mul(1000));
    let version = after.map_or(start, |cell| cell.version.as_u64());
    [start, end, replied, version, written.max(start)]
        .into_iter()
        .filter(|at| (start..=end).contains(at))
        .collect()
}

fn operation(random: &mut fastrand::Rng, before: Option<&Cell>, fences: &[Fence], now_micros: u64) -> Op {
    let now = Timestamp::from_millis(now_micros / 1000);
    let current = before.map_or(Version::NONE, |cell| cell.version);
    let version = match random.u8(0..40) {
        0..=11 => current,
        12..=17 => Version::from_u64(current.as_u64().saturating_add(1)),
        18..=23 => Version::from_u64(current.as_u64().saturating_sub(1)),
        24..=31 => Version::from_u64(now_micros),
        32..=36 => Version::from_u64(now_micros + 1_000_000_000),
        37 => Version::MAX,
        _ => Version::NONE,
    };
    let length = [Duration::ZERO, HOUR, HOUR * 2, Duration::MAX][random.usize(0..4)];
    let deadlines = match random.u8(0..5) {
        0 => Deadlines::ttl(now, Duration::ZERO),
        1 => Deadlines::forever(now),
        2 => Deadlines { fresh_until: now, ..Deadlines::ttl(now, HOUR) },
        3 => Deadlines::ttl(Timestamp::from_millis(1), Duration::from_millis(2)),
        _ => Deadlines::ttl(now, HOUR),
    };
    let body = match random.u8(0..6) {
        0 => None,
        1 => Some(Bytes::new()),
        _ => Some(Bytes::from(random.u64(..).to_be_bytes().to_vec())),
    };
    // Fences of the cell itself and the newest fences come most often.
    let fence = match before {
        Some(cell) if random.bool() => Fence { token: cell.token, version: cell.version },
        _ => fences[fences.len() - 1 - random.usize(0..fences.len().min(6))],
    };
    match random.u8(0..16) {
        0 => Op::Get,
        1..=3 => Op::Lease {
            token: Token::from_u64(random.u64(1..)),
            ttl: length,
            over: random.bool().then_some(version),
            replaces: replaces(random, before),
        },
        4..=6 => {
            Op::Fill { fence, version: if random.bool() { fence.version } else { version }, deadlines, body }
        }
        7 => put(Order::Author(Condition::Always), deadlines, body, length),
        8 => put(Order::Author(Condition::Absent), deadlines, body, length),
        9 => put(Order::Author(Condition::Version(version)), deadlines, body, length),
        10 | 11 => put(Order::Follow(version), deadlines, body, length),
        12 => put(Order::Unfenced(version), deadlines, body, length),
        13 => Op::Invalidate { version: random.bool().then_some(version), tombstone_ttl: length },
        14 => Op::Remove { tombstone_ttl: length },
        _ => Op::Expire { deadlines },
    }
}

/// Often the token of the cell, or none.
fn replaces(random: &mut fastrand::Rng, before: Option<&Cell>) -> Token {
    match random.u8(0..4) {
        0 => before.map_or(Token::NONE, |cell| cell.token),
        1 => Token::from_u64(random.u64(1..)),
        _ => Token::NONE,
    }
}

fn put(order: Order, deadlines: Deadlines, body: Option<Bytes>, tombstone_ttl: Duration) -> Op {
    Op::Put { order, deadlines, body, tombstone_ttl }
}

async fn server_now(server: &mut PgConnection, role: Role) -> (Epoch, u64) {
    let row = sqlx::query("SELECT epoch, terrace.micros() FROM terrace.spaces")
        .fetch_one(server)
        .await
        .expect("the only namespace");
    let epoch: i64 = row.get(0);
    let epoch = if role == Role::Store { Epoch::default() } else { Epoch::from_u64(epoch.cast_unsigned()) };
    (epoch, row.get::<i64, _>(1).cast_unsigned())
}

async fn row(server: &mut PgConnection, role: Role, key: &TierKey) -> Option<Cell> {
    let columns = "state, version, coalesce(epoch, 0), coalesce(token, 0), written, fresh_until, stale_until, \
                   expires_at, body";
    let text = format!("SELECT {columns} FROM terrace.{} WHERE digest = $1", table(role));
    let row = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(key.digest)
        .fetch_optional(server)
        .await
        .expect("a row or none")?;
    let number = |column: usize| row.get::<i64, _>(column).cast_unsigned();
    let state = match row.get::<i8, _>(0).cast_unsigned() {
        b'V' => State::Value,
        b'N' => State::Negative,
        b'L' => State::Lease,
        _ => State::Tombstone,
    };
    Some(Cell {
        state,
        version: Version::from_u64(number(1)),
        epoch: Epoch::from_u64(number(2)),
        token: Token::from_u64(number(3)),
        deadlines: Deadlines {
            written: Timestamp::from_millis(number(4)),
            fresh_until: Timestamp::from_millis(number(5)),
            stale_until: Timestamp::from_millis(number(6)),
            expires_at: Timestamp::from_millis(number(7)),
        },
        bytes: row.get::<Option<Vec<u8>>, _>(8).map(Bytes::from).unwrap_or_default(),
    })
}

async fn delete_cell(server: &mut PgConnection, role: Role, key: &TierKey) {
    let text = format!("DELETE FROM terrace.{} WHERE digest = $1", table(role));
    sqlx::query(sqlx::AssertSqlSafe(text)).bind(key.digest).execute(server).await.expect("a deletion");
}

const fn table(role: Role) -> &'static str {
    match role {
        Role::Cache => "cache_entries",
        Role::Store => "records",
    }
}
