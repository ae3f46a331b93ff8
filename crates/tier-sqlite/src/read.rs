//! Reads of cells, beside the writer.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use terrace_tier::{Cell, Change, Epoch, Error, ErrorKind, Op, Reply, Result, TierKey, transition};

use crate::{
    error::{During, SqlResult, typed},
    namespace::NamespaceRow,
};

/// The most keys of one select.
const SELECT_KEYS: usize = 500;

/// Cells in their encoding, by the digest of their key.
pub(crate) type EncodedCells = HashMap<[u8; 16], Bytes>;

/// The replies to the operations that change nothing, and `None` for each operation that has to
/// write. A cell that cannot be read is an error of its key alone. Takes no lock that a write waits for.
pub(crate) async fn replies(
    row: &NamespaceRow,
    batch: &[(TierKey, Op)],
) -> Result<Vec<Option<Result<Reply>>>> {
    let id = row.id().await?;
    let mut reader = row.shared.connections().await?.reader().await;
    let connection = reader.connection();
    let mut replies = Vec::with_capacity(batch.len());
    for part in batch.chunks(SELECT_KEYS) {
        let found = match part {
            [(key, _)] => one_cell(connection, id, key).await,
            _ => many_cells(connection, id, part).await,
        };
        let (epoch, cells) = found.map_err(|error| typed(error, During::Read))?;
        let moment = row.moment(epoch);
        for (key, op) in part {
            let cell = cells.get(&key.digest).map(decode).transpose();
            replies.push(match cell.map(|cell| transition(cell.as_ref(), op, &moment)) {
                Ok((Change::Keep, reply)) => Some(Ok(reply)),
                Ok((Change::Write(_), _)) => None,
                Err(error) => Some(Err(error)),
            });
        }
    }
    Ok(replies)
}

/// The epoch of the namespace and the cell of one key.
pub(crate) async fn one_cell(
    connection: &mut SqliteConnection,
    id: i64,
    key: &TierKey,
) -> SqlResult<(Epoch, EncodedCells)> {
    let row = sqlx::query(
        "SELECT s.epoch, c.cell FROM spaces s \
         LEFT JOIN cells c ON c.space = s.id AND c.digest = ?2 WHERE s.id = ?1",
    )
    .bind(id)
    .bind(key.digest.as_slice())
    .fetch_one(connection)
    .await?;
    let cell: Option<Vec<u8>> = row.try_get(1)?;
    Ok((epoch(row.try_get(0)?), cell.map(|cell| (key.digest, Bytes::from(cell))).into_iter().collect()))
}

/// The epoch of the namespace and the cells of several keys, in one statement and so of one moment.
async fn many_cells(
    connection: &mut SqliteConnection,
    id: i64,
    part: &[(TierKey, Op)],
) -> SqlResult<(Epoch, EncodedCells)> {
    let parameters = vec!["?"; part.len()].join(", ");
    let text = format!(
        "SELECT s.epoch, c.digest, c.cell FROM spaces s \
         LEFT JOIN cells c ON c.space = s.id AND c.digest IN ({parameters}) WHERE s.id = ?"
    );
    let mut select = sqlx::query(AssertSqlSafe(text)).persistent(false);
    for (key, _) in part {
        select = select.bind(key.digest.as_slice());
    }
    let rows = select.bind(id).fetch_all(connection).await?;
    let number: i64 = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    let mut cells = HashMap::with_capacity(part.len());
    for row in rows {
        let digest: Option<Vec<u8>> = row.try_get(1)?;
        if let Some(Ok(digest)) = digest.map(<[u8; 16]>::try_from) {
            cells.insert(digest, Bytes::from(row.try_get::<Vec<u8>, _>(2)?));
        }
    }
    Ok((epoch(number), cells))
}

fn epoch(number: i64) -> Epoch {
    Epoch::from_u64(number.cast_unsigned())
}

/// The cell that these bytes encode.
pub(crate) fn decode(bytes: &Bytes) -> Result<Cell> {
    Cell::decode(bytes.clone())
        .ok_or_else(|| Error::new(ErrorKind::Undecodable, "a row of the file holds no valid cell"))
}
