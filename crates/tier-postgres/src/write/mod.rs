//! Writes: one statement for one key or many, in the order of the digests.

use std::{collections::HashMap, result};

use bytes::Bytes;
use sqlx::{PgConnection, Row, postgres::PgRow};
use terrace_tier::{Condition, Deadlines, Op, Order, Reply, Result, Role, TierKey, Token, Version};

use crate::{
    connection::pool::Session,
    error::{Phase, missing_reply, unreadable},
    namespace::NamespaceRow,
    sql::{
        numbers::{columns, millis, signed},
        rows,
    },
};

/// Runs operations on distinct keys: one reply for each, in order. All of them happen or none.
pub(crate) async fn write(
    row: &NamespaceRow,
    id: i32,
    mut session: Session,
    batch: &[(TierKey, Op)],
) -> Result<Vec<Reply>> {
    if row.namespace.role == Role::Cache {
        row.shared.cleaner.wrote(batch.len());
    }
    let answered = run(row, id, session.connection()?, batch).await;
    match row.typed(session.end(answered), Phase::Write)? {
        Answer::Versions(versions) => {
            let reply = |(key, _): &(TierKey, Op)| versions.get(&key.digest).copied().map(Reply::Kept);
            batch.iter().map(|request| reply(request).ok_or_else(missing_reply)).collect()
        }
        Answer::Rows(changed, order) => {
            let changed = rows::in_request_order(&order, changed).ok_or_else(missing_reply)?;
            let replies = changed.iter().zip(batch).map(|(changed, (_, op))| rows::change(changed, op));
            // An error here is one of a write: it happened, but its reply cannot be read.
            replies.collect::<result::Result<_, _>>().map_err(|error| unreadable(error, Phase::Write))
        }
    }
}

/// The answer of the server to a batch.
pub(crate) enum Answer {
    /// The version of each put, by its digest.
    Versions(HashMap<[u8; 16], Version>),
    /// A row for each operation, and which operation that is.
    Rows(Vec<PgRow>, Vec<usize>),
}

/// Sends the statement for operations on distinct keys.
pub(crate) async fn run(
    row: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    batch: &[(TierKey, Op)],
) -> result::Result<Answer, sqlx::Error> {
    if let Some(puts) = unconditional_puts(batch) {
        return upsert(row, id, connection, &puts).await.map(Answer::Versions);
    }
    let mut order: Vec<usize> = (0..batch.len()).collect();
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

/// The puts of `batch` sorted by digest, with only the last one for each key. `None` unless all are
/// unconditional puts, and all with a version or all without.
fn unconditional_puts(batch: &[(TierKey, Op)]) -> Option<Vec<Put<'_>>> {
    let mut puts = Vec::with_capacity(batch.len());
    for (key, op) in batch.iter().rev() {
        let Op::Put { order, deadlines, body, .. } = op else { return None };
        let version = match order {
            Order::Author(Condition::Always) => None,
            Order::Unfenced(version) => Some(signed(version.as_u64())),
            _ => return None,
        };
        puts.push(Put { key, version, deadlines: *deadlines, body: body.as_deref() });
    }
    puts.sort_by_key(|put| put.key.digest);
    puts.dedup_by_key(|put| put.key.digest);
    let unfenced = puts.first()?.version.is_some();
    puts.iter().all(|put| put.version.is_some() == unfenced).then_some(puts)
}

/// Writes `puts` and gives the version of each by its digest.
async fn upsert(
    row: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    puts: &[Put<'_>],
) -> result::Result<HashMap<[u8; 16], Version>, sqlx::Error> {
    let times = |column: usize| puts.iter().map(|put| columns(put.deadlines)[column]).collect::<Vec<_>>();
    let written = sqlx::query(row.shared.statements().of(row.namespace.role).put.clone())
        .bind(id)
        .bind(puts.iter().map(|put| put.key.digest.as_slice()).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.key.bytes.as_ref()).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.version).collect::<Vec<_>>())
        .bind(times(0))
        .bind(times(1))
        .bind(times(2))
        .bind(times(3))
        .bind(puts.iter().map(|put| put.body).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    written.iter().map(|written| Ok((written.try_get(0)?, rows::version(written, 1)?))).collect()
}

/// The arguments of the server's function, one array for each column.
#[derive(Default)]
struct Arguments<'a> {
    digests: Vec<&'a [u8]>,
    keys: Vec<&'a [u8]>,
    kinds: Vec<&'static str>,
    tokens: Vec<Option<i64>>,
    seen: Vec<Option<i64>>,
    versions: Vec<Option<i64>>,
    tombstone_ttls: Vec<Option<i64>>,
    deadlines: [Vec<Option<i64>>; 4],
    bodies: Vec<Option<&'a [u8]>>,
}

impl<'a> Arguments<'a> {
    fn push(&mut self, key: &'a TierKey, op: &'a Op) {
        let number = |version: Version| Some(signed(version.as_u64()));
        let (mut token, mut seen, mut version, mut tombstone_ttl) = (None, None, None, None);
        let (mut deadlines, mut body): (Option<Deadlines>, Option<&'a Bytes>) = (None, None);
        match op {
            Op::Fill { fence, version: loaded, deadlines: until, body: bytes } => {
                (token, seen, version) = (fence_token(fence.token), number(fence.version), number(*loaded));
                (deadlines, body) = (Some(*until), bytes.as_ref());
            }
            Op::Put { order, deadlines: until, body: bytes, tombstone_ttl: ttl } => {
                (deadlines, body, tombstone_ttl) = (Some(*until), bytes.as_ref(), Some(millis(*ttl)));
                match order {
                    Order::Author(Condition::Version(at)) => seen = number(*at),
                    Order::Follow(issued) | Order::Unfenced(issued) => version = number(*issued),
                    _ => {}
                }
            }
            Op::Invalidate { version: at_least, tombstone_ttl: ttl } => {
                (seen, tombstone_ttl) = (at_least.and_then(number), Some(millis(*ttl)));
            }
            Op::Remove { tombstone_ttl: ttl } => tombstone_ttl = Some(millis(*ttl)),
            Op::Expire { deadlines: until } => deadlines = Some(*until),
            _ => {}
        }
        self.digests.push(&key.digest);
        self.keys.push(&key.bytes);
        self.kinds.push(kind(op).unwrap_or("unknown"));
        self.tokens.push(token);
        self.seen.push(seen);
        self.versions.push(version);
        self.tombstone_ttls.push(tombstone_ttl);
        for (column, times) in self.deadlines.iter_mut().enumerate() {
            times.push(deadlines.map(|deadlines| columns(deadlines)[column]));
        }
        self.bodies.push(body.map(AsRef::as_ref));
    }
}

/// The name of an operation in the server's functions.
///
/// # Errors
/// [`ErrorKind::Unsupported`](terrace_tier::ErrorKind::Unsupported) for an operation or order that a
/// later version of the contract adds.
pub(crate) fn kind(op: &Op) -> Result<&'static str> {
    Ok(match op {
        Op::Get | Op::Lease { .. } => "read",
        Op::Fill { .. } => "fill",
        Op::Put { order: Order::Author(Condition::Always), .. } => "put",
        Op::Put { order: Order::Author(Condition::Absent), .. } => "put_absent",
        Op::Put { order: Order::Author(Condition::Version(_)), .. } => "put_version",
        Op::Put { order: Order::Follow(_), .. } => "put_follow",
        Op::Put { order: Order::Unfenced(_), .. } => "put_unfenced",
        Op::Invalidate { .. } => "invalidate",
        Op::Remove { .. } => "remove",
        Op::Expire { .. } => "expire",
        unknown => return Err(unknown.unsupported()),
    })
}

/// NULL for no token, so that it equals no token of a cell.
fn fence_token(token: Token) -> Option<i64> {
    (token != Token::NONE).then(|| signed(token.as_u64()))
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
    sqlx::query(row.shared.statements().of(row.namespace.role).apply.clone())
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
        .bind(arguments.bodies)
        .fetch_all(connection)
        .await
}
