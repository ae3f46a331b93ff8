//! Changes of cells, in transactions of the one writer.

use std::{slice, time::Duration};

use sqlx::SqliteConnection;
use terrace_tier::{
    Cell, Change, Epoch, Error, ErrorKind, Namespace, Op, Reply, Result, Role, SendMark, State, TierKey,
    Timestamp, transition,
};

use crate::{
    connection::Writer,
    error::{During, SqlResult, is_of_one_statement, missing_reply, typed},
    front::Front,
    namespace::NamespaceRow,
    read::{decode, one_cell},
};

/// A write of one caller, and the decision whether it is sent.
pub(crate) struct WriteRequest {
    pub(crate) write: (TierKey, Op),
    pub(crate) mark: SendMark,
}

/// How long the row of a record is kept after the record's end: a load that began before the record
/// was written must find the version that supersedes it.
const ENDED_RECORD_KEPT: Duration = Duration::from_secs(3600);

/// Gives the row `?2` the epoch `?1`; a row without a tenant stands for the rows of all tenants.
const CLEAR: &str = "UPDATE spaces SET epoch = ?1 WHERE id IN ( \
    SELECT other.id FROM spaces own JOIN spaces other \
    ON other.id = own.id \
        OR own.tenant IS NULL AND other.namespace = own.namespace AND other.role = own.role \
    WHERE own.id = ?2)";

/// Applies operations one after the other in one transaction: one answer for each, in order. Nothing is begun
/// once the caller has given up the wait for the writer.
pub(crate) async fn apply(
    row: &NamespaceRow,
    batch: &[(TierKey, Op)],
    mark: &SendMark,
) -> Result<Vec<Result<Reply>>> {
    let id = row.id().await?;
    let mut writer = row.shared.connections().await?.writer().await;
    if !mark.send() {
        return Err(withdrawn());
    }
    Ok(apply_all(row, id, &mut writer, batch).await)
}

/// As [`apply`], for the requests of several callers. Those that their callers have given up are left out.
pub(crate) async fn apply_requests(
    row: &NamespaceRow,
    requests: Vec<WriteRequest>,
) -> Result<Vec<Result<Reply>>> {
    let id = row.id().await?;
    let mut writer = row.shared.connections().await?.writer().await;
    let is_sent: Vec<bool> = requests.iter().map(|request| request.mark.send()).collect();
    let sent = requests.into_iter().zip(&is_sent).filter(|(_, is_sent)| **is_sent);
    let batch: Vec<_> = sent.map(|(request, _)| request.write).collect();
    let mut replies = match batch.is_empty() {
        true => Vec::new(),
        false => apply_all(row, id, &mut writer, &batch).await,
    }
    .into_iter();
    let answer = |is_sent| match is_sent {
        true => replies.next().unwrap_or_else(|| Err(missing_reply())),
        false => Err(withdrawn()),
    };
    Ok(is_sent.into_iter().map(answer).collect())
}

/// The answer to a caller that has stopped waiting, which nobody reads.
fn withdrawn() -> Error {
    Error::new(ErrorKind::Timeout, "the caller has stopped waiting, and nothing was done")
}

/// Applies operations in one transaction, or each in one of its own where SQLite refuses one of them.
async fn apply_all(
    row: &NamespaceRow,
    id: i64,
    writer: &mut Writer,
    batch: &[(TierKey, Op)],
) -> Vec<Result<Reply>> {
    let error = match in_transaction(row, id, writer, batch).await {
        Ok(replies) => return replies,
        Err(error) => error,
    };
    if batch.len() == 1 || !is_of_one_statement(&error) {
        let error = typed(error, During::Write);
        return batch.iter().map(|_| Err(error.clone())).collect();
    }
    let mut replies = Vec::with_capacity(batch.len());
    for write in batch {
        let reply = in_transaction(row, id, writer, slice::from_ref(write)).await;
        let reply = reply.map_err(|error| typed(error, During::Write));
        replies.push(reply.and_then(|mut replies| replies.pop().unwrap_or_else(|| Err(missing_reply()))));
    }
    replies
}

/// Applies operations in one transaction, which is rolled back after an error. An operation whose cell cannot
/// be read changes nothing and fails alone.
async fn in_transaction(
    row: &NamespaceRow,
    id: i64,
    writer: &mut Writer,
    batch: &[(TierKey, Op)],
) -> SqlResult<Vec<Result<Reply>>> {
    let durable = batch.iter().any(|(_, op)| must_be_durable(&row.namespace, op));
    let work = async {
        writer.set_synced(durable).await?;
        writer.begin().await?;
        let mut replies = Vec::with_capacity(batch.len());
        let connection = &mut writer.connection;
        let mut front = Front::of(row, connection, batch.iter().map(|(_, op)| op)).await?;
        for (key, op) in batch {
            replies.push(match front.permit(row, connection, op).await? {
                Ok(()) => apply_one(row, id, connection, key, op).await?,
                Err(refusal) => Err(refusal),
            });
        }
        writer.commit().await?;
        Ok(replies)
    };
    let done = work.await;
    if done.is_err() {
        writer.roll_back().await;
    }
    done
}

/// Applies one operation within a transaction. The inner error is that of a cell that cannot be read.
async fn apply_one(
    row: &NamespaceRow,
    id: i64,
    connection: &mut SqliteConnection,
    key: &TierKey,
    op: &Op,
) -> SqlResult<Result<Reply>> {
    let (epoch, cells) = one_cell(connection, id, key).await?;
    let cell = match cells.get(&key.digest).map(decode).transpose() {
        Ok(cell) => cell,
        Err(error) => return Ok(Err(error)),
    };
    let moment = row.moment(epoch);
    let (change, reply) = transition(cell.as_ref(), op, &moment);
    if let Change::Write(cell) = change {
        put_cell(connection, row.namespace.role, id, key, &cell).await?;
    }
    Ok(Ok(reply))
}

/// Makes every copy of the namespace dead by a new epoch; without a tenant, the copies of all
/// tenants. The cleaner deletes them.
pub(crate) async fn clear(row: &NamespaceRow) -> Result<()> {
    let id = row.id().await?;
    let mut writer = row.shared.connections().await?.writer().await;
    let work = async {
        writer.set_synced(true).await?;
        sqlx::query(CLEAR)
            .bind(Epoch::random().as_u64().cast_signed())
            .bind(id)
            .execute(&mut writer.connection)
            .await
    };
    work.await.map_err(|error| typed(error, During::Write))?;
    row.shared.cleared.notify_one();
    Ok(())
}

/// Whether the effect of `op` must survive a crash of the machine.
fn must_be_durable(namespace: &Namespace, op: &Op) -> bool {
    namespace.role == Role::Store || !matches!(op, Op::Lease { .. } | Op::Fill { .. })
}

async fn put_cell(
    connection: &mut SqliteConnection,
    role: Role,
    id: i64,
    key: &TierKey,
    cell: &Cell,
) -> SqlResult<()> {
    let end = match (role, cell.state) {
        (Role::Store, State::Value | State::Negative) => cell.deadlines.expires_at.after(ENDED_RECORD_KEPT),
        _ => cell.deadlines.expires_at,
    };
    let drop_after = (end != Timestamp::NEVER).then(|| i64::try_from(end.as_millis()).ok()).flatten();
    sqlx::query(
        "INSERT INTO cells (space, digest, key, epoch, drop_after, cell) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (space, digest) DO UPDATE SET \
         epoch = excluded.epoch, drop_after = excluded.drop_after, cell = excluded.cell",
    )
    .bind(id)
    .bind(key.digest.as_slice())
    .bind(key.bytes.as_ref())
    .bind(cell.epoch.as_u64().cast_signed())
    .bind(drop_after)
    .bind(Vec::from(cell.encode()))
    .execute(connection)
    .await?;
    Ok(())
}
