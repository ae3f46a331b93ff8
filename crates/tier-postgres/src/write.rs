//! Writes: one statement for one key or many, in the order of the digests.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::{PgConnection, Row, postgres::PgRow};
use terrace_tier::{Condition, Deadlines, Op, Order, Reply, Result, TierKey, Version};

use crate::{
    error::{During, typed},
    number::{columns, length, signed},
    pool::Session,
    read::{in_order, missing},
    rows,
    space::NamespaceRow,
};

/// Operations on distinct keys; one answer a key, in order. The whole batch happens or none of it.
pub(crate) async fn send(
    room: &NamespaceRow,
    id: i32,
    mut session: Session,
    batch: &[(TierKey, Op)],
) -> Result<Vec<Reply>> {
    let connection = session.connection()?;
    if let Some(puts) = puts(batch) {
        let found = upsert(room, id, connection, &puts).await;
        let versions = room.note(session.end(found), During::Write)?;
        let kept = |(key, _): &(TierKey, Op)| versions.get(&key.digest).copied().map(Reply::Kept);
        return batch.iter().map(|one| kept(one).ok_or_else(missing)).collect();
    }
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|index| batch[*index].0.digest);
    let found = change(room, id, connection, order.iter().map(|index| &batch[*index])).await;
    let found = room.note(session.end(found), During::Write)?;
    let rows = in_order(&order, found).ok_or_else(missing)?;
    let reply = |(row, (_, op)): (_, &(TierKey, Op))| rows::change(row, op);
    rows.iter().map(AsRef::as_ref).zip(batch).map(reply).collect::<std::result::Result<_, _>>().map_err(
        // The write was done; its answer cannot be read.
        |error| typed(error, During::Write),
    )
}

/// An unconditional put.
struct Put<'a> {
    key: &'a TierKey,
    version: Option<i64>,
    deadlines: Deadlines,
    body: Option<&'a [u8]>,
}

/// The puts of `batch`, sorted by digest and the last of each, if all are without a condition and
/// of one order.
fn puts(batch: &[(TierKey, Op)]) -> Option<Vec<Put<'_>>> {
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
    let open = puts.first()?.version.is_some();
    puts.iter().all(|put| put.version.is_some() == open).then_some(puts)
}

async fn upsert(
    room: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    puts: &[Put<'_>],
) -> std::result::Result<HashMap<[u8; 16], Version>, sqlx::Error> {
    let times = |column: usize| puts.iter().map(|put| columns(put.deadlines)[column]).collect::<Vec<_>>();
    let rows = sqlx::query(room.shared.statements.of(room.space.role).put.clone())
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
    rows.iter().map(|row| Ok((row.try_get(0)?, rows::version(row, 1)?))).collect()
}

/// What an operation asks of the server, column by column.
#[derive(Default)]
struct Asks<'a> {
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

impl<'a> Asks<'a> {
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
                (deadlines, body, tombstone_ttl) = (Some(*until), bytes.as_ref(), Some(length(*ttl)));
                match order {
                    Order::Author(Condition::Version(at)) => seen = number(*at),
                    Order::Follow(issued) | Order::Unfenced(issued) => version = number(*issued),
                    _ => {}
                }
            }
            Op::Invalidate { version: at_least, tombstone_ttl: ttl } => {
                (seen, tombstone_ttl) = (at_least.and_then(number), Some(length(*ttl)));
            }
            Op::Remove { tombstone_ttl: ttl } => tombstone_ttl = Some(length(*ttl)),
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
/// [`ErrorKind::Unsupported`] for an operation or order that a later version of the contract adds.
pub(crate) fn kind(op: &Op) -> terrace_tier::Result<&'static str> {
    Ok(match op {
        Op::Get | Op::Lease { .. } => "read",
        Op::Fill { .. } => "fill",
        Op::Put { order: Order::Author(Condition::Always), .. } => "put",
        Op::Put { order: Order::Author(Condition::Absent), .. } => "put_absent",
        Op::Put { order: Order::Author(Condition::Version(_)), .. } => "put_version",
        Op::Put { order: Order::Follow(_), .. } => "put_follow",
        Op::Put { order: Order::Unfenced(_), .. } => "put_open",
        Op::Invalidate { .. } => "invalidate",
        Op::Remove { .. } => "remove",
        Op::Expire { .. } => "expire",
        unknown => return Err(unknown.unsupported()),
    })
}

/// No token matches nothing.
fn fence_token(token: terrace_tier::Token) -> Option<i64> {
    (token != terrace_tier::Token::NONE).then(|| signed(token.as_u64()))
}

async fn change<'a>(
    room: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
    batch: impl Iterator<Item = &'a (TierKey, Op)>,
) -> std::result::Result<Vec<PgRow>, sqlx::Error> {
    let mut asks = Asks::default();
    batch.for_each(|(key, op)| asks.push(key, op));
    let [written, fresh, stale, expires] = asks.deadlines;
    sqlx::query(room.shared.statements.of(room.space.role).apply.clone())
        .bind(id)
        .bind(asks.digests)
        .bind(asks.keys)
        .bind(asks.kinds)
        .bind(asks.tokens)
        .bind(asks.seen)
        .bind(asks.versions)
        .bind(asks.tombstone_ttls)
        .bind(written)
        .bind(fresh)
        .bind(stale)
        .bind(expires)
        .bind(asks.bodies)
        .fetch_all(connection)
        .await
}
