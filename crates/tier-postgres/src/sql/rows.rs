//! Turns rows into replies. Columns 0 and 2 to 6 are the same in every statement: version, the four
//! deadlines, body.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::{
    Row, ValueRef,
    postgres::{PgRow, PgValueRef},
};
use terrace_tier::{Fence, Op, Order, Reply, Role, Stored, Token, Version};

use super::numbers::{clock_millis, deadlines, unsigned};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// The value or negative entry in a row.
fn stored(row: &PgRow) -> Result<Stored> {
    let expires_at = number(row, 5)?;
    let deadline = |column| Ok::<_, sqlx::Error>(optional(row, column)?.unwrap_or(expires_at));
    let columns = [number(row, 2)?, deadline(3)?, deadline(4)?, expires_at];
    let body = row.try_get_raw(6)?;
    let body = if body.is_null() { None } else { Some(Bytes::copy_from_slice(bytes_of(&body)?)) };
    Ok(Stored::new(version(row, 0)?, deadlines(columns), body))
}

fn number(row: &PgRow, column: usize) -> Result<i64> {
    optional(row, column)?.ok_or_else(|| sqlx::Error::Decode("a number in the row is NULL".into()))
}

/// A `bigint` or `timestamptz`, from its bytes: a row has seven, and `try_get` would check each type.
fn optional(row: &PgRow, column: usize) -> Result<Option<i64>> {
    let found = row.try_get_raw(column)?;
    if found.is_null() {
        return Ok(None);
    }
    let bytes = bytes_of(&found)?.try_into().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Some(i64::from_be_bytes(bytes)))
}

fn bytes_of<'row>(value: &PgValueRef<'row>) -> Result<&'row [u8]> {
    value.as_bytes().map_err(sqlx::Error::Decode)
}

pub(crate) fn version(row: &PgRow, column: usize) -> Result<Version> {
    Ok(Version::from_u64(unsigned(number(row, column)?)))
}

/// The reply to a plain read. In a cache, the miss of a `Lease` has no fence yet.
pub(crate) fn read(row: Option<&PgRow>, role: Role, op: &Op) -> Result<Reply> {
    let over = match op {
        Op::Lease { over, .. } => *over,
        _ => None,
    };
    let Some(row) = row else { return Ok(Reply::Miss(Fence::default())) };
    let stored_version = version(row, 0)?;
    let (state, expires_at): (i8, i64) = (row.try_get(1)?, number(row, 5)?);
    // A row without the server's clock never expires.
    let now = optional(row, 7)?.map(clock_millis);
    let live = now.is_none_or(|now| unsigned(expires_at) > now);
    if live && matches!(state.cast_unsigned(), b'V' | b'N') && over != Some(stored_version) {
        return Ok(Reply::Hit(stored(row)?));
    }
    Ok(Reply::Miss(match (role, op) {
        (Role::Store, Op::Lease { .. }) => Fence { token: Token::NONE, version: stored_version },
        _ => Fence::default(),
    }))
}

/// The reply to a lease in a cache.
pub(crate) fn lease(row: &PgRow) -> Result<Reply> {
    let token: Option<i64> = row.try_get(8)?;
    match token {
        Some(token) => {
            let token = Token::from_u64(unsigned(token));
            Ok(Reply::Miss(Fence { token, version: version(row, 9)? }))
        }
        None => Ok(Reply::Hit(stored(row)?)),
    }
}

/// The reply to an operation that writes.
pub(crate) fn change(row: &PgRow, op: &Op) -> Result<Reply> {
    let applied: bool = row.try_get(8)?;
    let decided = version(row, 10)?;
    match op {
        Op::Fill { .. } | Op::Put { .. } if applied => Ok(Reply::Kept(decided)),
        Op::Put { order: Order::Behind { .. }, .. } if row.try_get(11)? => Ok(Reply::TooOld),
        Op::Fill { .. } | Op::Put { .. } => {
            let hit: bool = row.try_get(1)?;
            Ok(Reply::Refused(if hit { Some(stored(row)?) } else { None }))
        }
        _ => Ok(Reply::Done { existed: row.try_get(9)?, version: decided }),
    }
}

/// Puts the rows of sorted requests back into the order of the requests: `order[i]` is the index of the
/// request of row `i`. `None` if a row is missing.
pub(crate) fn in_request_order(order: &[usize], rows: Vec<PgRow>) -> Option<Vec<Arc<PgRow>>> {
    if rows.len() != order.len() {
        return None;
    }
    let mut sorted: Vec<Option<Arc<PgRow>>> = vec![None; order.len()];
    for (index, row) in order.iter().zip(rows) {
        sorted[*index] = Some(Arc::new(row));
    }
    sorted.into_iter().collect()
}
