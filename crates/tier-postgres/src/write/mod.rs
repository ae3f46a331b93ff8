//! Writes: one statement for one key or many, in the order of the digests.

mod arguments;
mod call;

use std::{collections::HashMap, result, time::Duration};

use sqlx::{PgConnection, Row, postgres::PgRow};
use terrace_tier::{Condition, Deadlines, Error, Op, Order, Reply, Result, Role, Term, TierKey, Version};

use crate::{
    connection::pool::Session,
    error::{Phase, may_be_of_one_key, missing_reply, unreadable},
    namespace::NamespaceRow,
    sql::{
        numbers::{columns, signed},
        rows,
    },
};

use arguments::Arguments;
pub(crate) use arguments::kind;
pub(crate) use call::{Outcome, WriteCall, WriteRequest};

/// The most time that a statement of several keys waits for a row which another transaction has locked, if a
/// quarter of the budget is not less. Each of its operations is then sent alone, so that only those of the locked
/// row wait longer. Our own statements hold their locks for a few milliseconds, the commit included.
const MAX_LOCK_WAIT: Duration = Duration::from_millis(100);

/// Why a statement failed.
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The statement had several keys, and one of them may be the cause. Nothing of it happened, so each of its
    /// writes may be sent alone.
    pub(crate) may_be_of_one_key: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, may_be_of_one_key: false }
    }
}

/// Runs operations in one statement: one reply for each, in order. All of them happen or none. Operations of
/// one key happen in their order.
pub(crate) async fn write(
    row: &NamespaceRow,
    id: i32,
    mut session: Session,
    batch: &[(TierKey, Op)],
) -> Result<Vec<Result<Reply>>, Failure> {
    if row.namespace.role == Role::Cache {
        row.shared.cleaner.wrote(batch.len());
    }
    let answered = run(row, id, session.connection()?, batch).await;
    let answered = session.end(answered);
    let may_be_of_one_key = batch.len() > 1 && answered.as_ref().err().is_some_and(may_be_of_one_key);
    let answer = row.typed(answered, Phase::Write).map_err(|error| Failure { error, may_be_of_one_key })?;
    Ok(match answer {
        Answer::Versions(versions) => {
            let reply = |(key, _): &(TierKey, Op)| versions.get(&key.digest).copied().map(Reply::Kept);
            batch.iter().map(|request| reply(request).ok_or_else(missing_reply)).collect()
        }
        Answer::Rows(changed, order) => {
            let changed = rows::in_request_order(&order, changed).ok_or_else(missing_reply)?;
            // An error here is one of a write: it happened, but its reply cannot be read.
            let reply = |changed: &PgRow, op| {
                rows::change(changed, op).map_err(|error| unreadable(error, Phase::Write))
            };
            changed.iter().zip(batch).map(|(changed, (_, op))| reply(changed, op)).collect()
        }
    })
}

/// The bytes that a write adds to a statement.
pub(crate) fn bytes_of((key, op): &(TierKey, Op)) -> usize {
    key.bytes.len() + body_bytes(op)
}

/// The bytes of the value that `op` writes.
pub(crate) fn body_bytes(op: &Op) -> usize {
    match op {
        Op::Fill { body: Some(body), .. } | Op::Put { body: Some(body), .. } => body.len(),
        _ => 0,
    }
}

/// The answer of the server to a batch.
pub(crate) enum Answer {
    /// The version of each put, by its digest.
    Versions(HashMap<[u8; 16], Version>),
    /// A row for each operation, and which operation that is.
    Rows(Vec<PgRow>, Vec<usize>),
}

/// Sends the statement for operations.
pub(crate) async fn run(
    row: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    batch: &[(TierKey, Op)],
) -> result::Result<Answer, sqlx::Error> {
    if let Some(puts) = unconditional_puts(batch) {
        return upsert(row, id, connection, &puts).await.map(Answer::Versions);
    }
    if let Some((_, op)) = batch.first()
        && let Some(term) = op.term()
    {
        let (changed, order) = behind(row, id, connection, term, batch).await?;
        return Ok(Answer::Rows(changed, order));
    }
    let mut order: Vec<usize> = (0..batch.len()).collect();
    // The sort is stable: operations of one key stay in their order, and the function runs them in it.
    order.sort_by_key(|index| batch[*index].0.digest);
    let changed = apply(row, id, connection, order.iter().map(|index| &batch[*index])).await?;
    Ok(Answer::Rows(changed, order))
}

/// A put without a condition.
struct Put<'a> {
    key: &'a TierKey,
    version: Option<i64>,
    deadlines: Deadlines,
    body: Option<&'a [u8]>,
}

/// The puts of `batch` sorted by digest. `None` unless all are unconditional puts of distinct keys (an upsert
/// cannot write a row twice), and all with a version or all without.
fn unconditional_puts(batch: &[(TierKey, Op)]) -> Option<Vec<Put<'_>>> {
    let mut puts = Vec::with_capacity(batch.len());
    for (key, op) in batch {
        let Op::Put { order, deadlines, body, .. } = op else { return None };
        let version = match order {
            Order::Author(Condition::Always) => None,
            Order::Unfenced(version) => Some(signed(version.as_u64())),
            _ => return None,
        };
        puts.push(Put { key, version, deadlines: *deadlines, body: body.as_deref() });
    }
    puts.sort_unstable_by_key(|put| put.key.digest);
    let distinct = puts.windows(2).all(|pair| pair[0].key.digest != pair[1].key.digest);
    let unfenced = puts.first()?.version.is_some();
    (distinct && puts.iter().all(|put| put.version.is_some() == unfenced)).then_some(puts)
}

/// Writes `puts` and gives the version of each by its digest.
async fn upsert(
    row: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    puts: &[Put<'_>],
) -> result::Result<HashMap<[u8; 16], Version>, sqlx::Error> {
    let times = |column: usize| puts.iter().map(|put| columns(put.deadlines)[column]).collect::<Vec<_>>();
    let statement = &row.shared.statements().of(row.namespace.role).put;
    let shared = puts.len() > 1;
    let mut query = sqlx::query(statement.of(shared).clone())
        .bind(id)
        .bind(puts.iter().map(|put| put.key.digest.as_slice()).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.key.bytes.as_ref()).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.version).collect::<Vec<_>>())
        .bind(times(0))
        .bind(times(1))
        .bind(times(2))
        .bind(times(3))
        .bind(puts.iter().map(|put| put.body).collect::<Vec<_>>());
    if shared {
        query = query.bind(lock_wait(row));
    }
    let written = query.fetch_all(connection).await?;
    written.iter().map(|written| Ok((written.try_get(0)?, rows::version(written, 1)?))).collect()
}

/// Writes what a front has ordered: a row for each write, and which write that is. The keys of a front's batch are
/// distinct.
async fn behind(
    row: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    term: Term,
    batch: &[(TierKey, Op)],
) -> result::Result<(Vec<PgRow>, Vec<usize>), sqlx::Error> {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|index| batch[*index].0.digest);
    let mut arguments = Arguments::default();
    order.iter().for_each(|index| arguments.push(&batch[*index].0, &batch[*index].1));
    let [written, fresh, stale, expires] = arguments.deadlines;
    let shared = batch.len() > 1;
    let mut query = sqlx::query(row.shared.statements().fronts.behind.of(shared).clone())
        .bind(id)
        .bind(signed(term.as_u64()))
        .bind(arguments.digests)
        .bind(arguments.keys)
        .bind(arguments.versions)
        .bind(arguments.tombstone_ttls)
        .bind(written)
        .bind(fresh)
        .bind(stale)
        .bind(expires)
        .bind(arguments.bodies);
    if shared {
        query = query.bind(lock_wait(row));
    }
    Ok((query.fetch_all(connection).await?, order))
}

/// Applies operations that are sorted by digest: one row for each.
async fn apply<'a>(
    row: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    batch: impl Iterator<Item = &'a (TierKey, Op)>,
) -> result::Result<Vec<PgRow>, sqlx::Error> {
    let mut arguments = Arguments::default();
    batch.for_each(|(key, op)| arguments.push(key, op));
    let [written, fresh, stale, expires] = arguments.deadlines;
    let statement = &row.shared.statements().of(row.namespace.role).apply;
    let shared = arguments.digests.len() > 1;
    let mut query = sqlx::query(statement.of(shared).clone())
        .bind(id)
        .bind(arguments.digests)
        .bind(arguments.keys)
        .bind(arguments.kinds)
        .bind(arguments.tokens)
        .bind(arguments.seen)
        .bind(arguments.versions)
        .bind(arguments.tombstone_ttls)
        .bind(written)
        .bind(fresh)
        .bind(stale)
        .bind(expires)
        .bind(arguments.bodies);
    if shared {
        query = query.bind(lock_wait(row));
    }
    query.fetch_all(connection).await
}

/// How long a statement of several keys waits for a lock, as the server's setting has it.
pub(crate) fn lock_wait(row: &NamespaceRow) -> String {
    let wait = (row.namespace.budget / 4).min(MAX_LOCK_WAIT);
    // Zero would be no limit.
    format!("{}ms", wait.as_millis().max(1))
}
