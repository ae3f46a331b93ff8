//! From rows to replies. Columns 0 and 2 to 6 are the same in every statement: version, the four
//! deadlines, body.

use bytes::Bytes;
use sqlx::{
    Row, ValueRef,
    postgres::{PgRow, PgValueRef},
};
use terrace_tier::{Fence, Op, Reply, Role, Stored, Token, Version};

use crate::number::{clock_millis, deadlines, unsigned};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// The value or negative entry of a row.
fn stored(row: &PgRow) -> Result<Stored> {
    let ends = number(row, 5)?;
    let until = |column| Ok::<_, sqlx::Error>(optional(row, column)?.unwrap_or(ends));
    let columns = [number(row, 2)?, until(3)?, until(4)?, ends];
    let body = row.try_get_raw(6)?;
    let body = if body.is_null() { None } else { Some(Bytes::copy_from_slice(bytes_of(&body)?)) };
    Ok(Stored::new(version(row, 0)?, deadlines(columns), body))
}

fn number(row: &PgRow, column: usize) -> Result<i64> {
    optional(row, column)?.ok_or_else(|| sqlx::Error::Decode("a number is missing".into()))
}

/// A `bigint` or `timestamptz`, as it travels: a row has seven, and `try_get` checks the type of each.
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

/// The reply to a read. A miss of a `Lease` in a cache has no fence yet.
pub(crate) fn read(row: Option<&PgRow>, role: Role, op: &Op) -> Result<Reply> {
    let over = match op {
        Op::Lease { over, .. } => *over,
        _ => None,
    };
    let Some(row) = row else { return Ok(Reply::Miss(Fence::default())) };
    let kept = version(row, 0)?;
    let (state, ends): (i8, i64) = (row.try_get(1)?, number(row, 5)?);
    // Without the clock it never ends.
    let now = optional(row, 7)?.map(clock_millis);
    let live = now.is_none_or(|now| unsigned(ends) > now);
    if live && matches!(state.cast_unsigned(), b'V' | b'N') && over != Some(kept) {
        return Ok(Reply::Hit(stored(row)?));
    }
    Ok(Reply::Miss(match (role, op) {
        (Role::Store, Op::Lease { .. }) => Fence { token: Token::NONE, version: kept },
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

/// The reply to an operation that changes.
pub(crate) fn change(row: &PgRow, op: &Op) -> Result<Reply> {
    let applied: bool = row.try_get(8)?;
    let decided = version(row, 10)?;
    match op {
        Op::Fill { .. } | Op::Put { .. } if applied => Ok(Reply::Kept(decided)),
        Op::Fill { .. } | Op::Put { .. } => {
            let hit: bool = row.try_get(1)?;
            Ok(Reply::Refused(if hit { Some(stored(row)?) } else { None }))
        }
        _ => Ok(Reply::Done { existed: row.try_get(9)?, version: decided }),
    }
}
