//! Reads of cells, beside the writer.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
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
/// write. Takes no lock that a write waits for.
pub(crate) async fn replies(row: &NamespaceRow, batch: &[(TierKey, Op)]) -> Result<Vec<Option<Reply>>> {
    let id = row.id().await?;
    let mut reader = row.shared.connections().await?.reader().await;
    let connection = reader.connection();
    let (epoch, cells) = match batch {
        [(key, _)] => one_cell(connection, id, key).await,
        _ => many_cells(connection, id, batch).await,
    }
    .map_err(|error| typed(error, During::Read))?;
    let moment = row.moment(epoch);
    let mut replies = Vec::with_capacity(batch.len());
    for (key, op) in batch {
        let cell = cells.get(&key.digest).map(decode).transpose()?;
        replies.push(match transition(cell.as_ref(), op, &moment) {
            (Change::Keep, reply) => Some(reply),
            (Change::Write(_), _) => None,
        });
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

async fn many_cells(
    connection: &mut SqliteConnection,
    id: i64,
    batch: &[(TierKey, Op)],
) -> SqlResult<(Epoch, EncodedCells)> {
    // One snapshot for the whole batch.
    let mut snapshot = connection.begin().await?;
    let number: i64 = sqlx::query_scalar("SELECT epoch FROM spaces WHERE id = ?")
        .bind(id)
        .fetch_one(&mut *snapshot)
        .await?;
    let mut cells = HashMap::with_capacity(batch.len());
    for part in batch.chunks(SELECT_KEYS) {
        let parameters = vec!["?"; part.len()].join(", ");
        let text = format!("SELECT digest, cell FROM cells WHERE space = ? AND digest IN ({parameters})");
        let mut select = sqlx::query(AssertSqlSafe(text)).persistent(false).bind(id);
        for (key, _) in part {
            select = select.bind(key.digest.as_slice());
        }
        for row in select.fetch_all(&mut *snapshot).await? {
            let digest: Vec<u8> = row.try_get(0)?;
            if let Ok(digest) = <[u8; 16]>::try_from(digest) {
                cells.insert(digest, Bytes::from(row.try_get::<Vec<u8>, _>(1)?));
            }
        }
    }
    snapshot.commit().await?;
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
