//! Changes of cells, in transactions of the one writer.

use std::time::Duration;

use sqlx::SqliteConnection;
use terrace_tier::{
    Cell, Change, Epoch, Namespace, Op, Reply, Result, Role, State, TierKey, Timestamp, transition,
};

use crate::{
    error::{During, SqlResult, typed},
    namespace::NamespaceRow,
    read::{decode, one_cell},
};

/// How long the row of a record is kept after the record's end: a load that began before the record
/// was written must find the version that supersedes it.
const ENDED_RECORD_KEPT: Duration = Duration::from_secs(3600);

/// Gives the row `?2` the epoch `?1`; a row without a tenant stands for the rows of all tenants.
const CLEAR: &str = "UPDATE spaces SET epoch = ?1 WHERE id IN ( \
    SELECT other.id FROM spaces own JOIN spaces other \
    ON other.id = own.id \
        OR own.tenant IS NULL AND other.namespace = own.namespace AND other.role = own.role \
    WHERE own.id = ?2)";

/// Applies operations one after the other in one transaction.
pub(crate) async fn apply(row: &NamespaceRow, batch: &[(TierKey, Op)]) -> Result<Vec<Reply>> {
    let id = row.id().await?;
    let mut writer = row.shared.connections().await?.writer().await;
    let durable = batch.iter().any(|(_, op)| must_be_durable(&row.namespace, op));
    let work = async {
        writer.set_synced(durable).await?;
        writer.begin().await?;
        let mut replies = Vec::with_capacity(batch.len());
        for (key, op) in batch {
            let (epoch, cells) = one_cell(&mut writer.connection, id, key).await?;
            let moment = row.moment(epoch);
            let cell = match cells.get(&key.digest).map(decode).transpose() {
                Ok(cell) => cell,
                Err(error) => return Ok(Err(error)),
            };
            let (change, reply) = transition(cell.as_ref(), op, &moment);
            if let Change::Write(cell) = change {
                put_cell(&mut writer.connection, row.namespace.role, id, key, &cell).await?;
            }
            replies.push(reply);
        }
        writer.commit().await?;
        Ok(Ok(replies))
    };
    let done = work.await.map_err(|error| typed(error, During::Write)).flatten();
    if done.is_err() {
        writer.roll_back().await;
    }
    done
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
