//! A namespace of one tenant in one role, and the operations on its cells.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use terrace_tier::{
    Cell, Change, Epoch, Error, ErrorKind, Moment, Namespace, NamespaceGuard, Op, Reply, Result, Role, State,
    TierKey, Timestamp, transition,
};
use tokio::sync::OnceCell;

use crate::{error::typed, shared::Shared, terms};

/// The most keys of one select.
const SELECT_KEYS: usize = 500;
/// So long after its end a record's row is kept: a load that began before the record was written
/// must find the version that it lost to.
const ENDED_RECORD_KEPT: std::time::Duration = std::time::Duration::from_secs(3600);

/// A [`Namespace`] as the file knows it.
pub(crate) struct NamespaceRow {
    pub(crate) space: Namespace,
    pub(crate) shared: Arc<Shared>,
    _claim: NamespaceGuard,
    id: OnceCell<i64>,
}

/// A result of the client.
type Raw<T> = std::result::Result<T, sqlx::Error>;

impl NamespaceRow {
    pub(crate) fn new(space: Namespace, shared: Arc<Shared>, claim: NamespaceGuard) -> Self {
        Self { space, shared, _claim: claim, id: OnceCell::new() }
    }

    /// The number of the space; entered by the first call.
    pub(crate) async fn id(&self) -> Result<i64> {
        self.id
            .get_or_try_init(async || {
                let mut writer = self.shared.connections().await?.writer().await;
                enter(&mut writer.connection, &self.space).await.map_err(|error| typed(error, false))
            })
            .await
            .copied()
    }

    /// Checks that the namespace is used as earlier runs of the program used it.
    pub(crate) async fn check_terms(&self) -> Result<()> {
        let id = self.id().await?;
        let mut writer = self.shared.connections().await?.writer().await;
        terms::agree(&mut writer.connection, &self.space, id).await.map_err(|error| typed(error, false))?
    }

    /// The replies to operations that change nothing, without a lock that a write waits for;
    /// `None` for one that has to write.
    pub(crate) async fn look(&self, batch: &[(TierKey, Op)]) -> Result<Vec<Option<Reply>>> {
        let id = self.id().await?;
        let mut reader = self.shared.connections().await?.reader().await;
        let connection = reader.connection();
        let (epoch, cells) = match batch {
            [(key, _)] => one_cell(connection, id, key).await,
            _ => many_cells(connection, id, batch).await,
        }
        .map_err(|error| typed(error, false))?;
        let moment = self.moment(epoch);
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

    /// Applies operations one after the other in one transaction.
    pub(crate) async fn change(&self, batch: &[(TierKey, Op)]) -> Result<Vec<Reply>> {
        let id = self.id().await?;
        let mut writer = self.shared.connections().await?.writer().await;
        let must_last = batch.iter().any(|(_, op)| self.must_last(op));
        let work = async {
            writer.sync(must_last).await?;
            let mut transaction = writer.connection.begin_with("BEGIN IMMEDIATE").await?;
            let mut replies = Vec::with_capacity(batch.len());
            for (key, op) in batch {
                let (epoch, cells) = one_cell(&mut transaction, id, key).await?;
                let moment = self.moment(epoch);
                let cell = match cells.get(&key.digest).map(decode).transpose() {
                    Ok(cell) => cell,
                    Err(error) => return Ok(Err(error)),
                };
                let (change, reply) = transition(cell.as_ref(), op, &moment);
                if let Change::Write(cell) = change {
                    self.keep(&mut transaction, id, key, &cell).await?;
                }
                replies.push(reply);
            }
            transaction.commit().await?;
            Ok(Ok(replies))
        };
        work.await.map_err(|error| typed(error, true))?
    }

    /// Makes every copy dead, without a tenant those of all tenants. The cleaner deletes them.
    pub(crate) async fn clear(&self) -> Result<()> {
        let id = self.id().await?;
        let mut writer = self.shared.connections().await?.writer().await;
        let work = async {
            writer.sync(true).await?;
            sqlx::query(CLEAR)
                .bind(Epoch::random().as_u64().cast_signed())
                .bind(id)
                .execute(&mut writer.connection)
                .await
        };
        work.await.map_err(|error| typed(error, true))?;
        self.shared.cleared.notify_one();
        Ok(())
    }

    fn must_last(&self, op: &Op) -> bool {
        self.space.role == Role::Store || !matches!(op, Op::Lease { .. } | Op::Fill { .. })
    }

    fn moment(&self, epoch: Epoch) -> Moment {
        let clock = &self.shared.clock;
        Moment::new(self.space.role, clock.now(), clock.micros(), epoch)
    }

    async fn keep(&self, connection: &mut SqliteConnection, id: i64, key: &TierKey, cell: &Cell) -> Raw<()> {
        let end = match (self.space.role, cell.state) {
            (Role::Store, State::Value | State::Negative) => {
                cell.deadlines.expires_at.after(ENDED_RECORD_KEPT)
            }
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
}

const CLEAR: &str = "UPDATE spaces SET epoch = ?1 WHERE id IN ( \
    SELECT other.id FROM spaces own JOIN spaces other \
    ON other.id = own.id \
        OR own.tenant IS NULL AND other.namespace = own.namespace AND other.role = own.role \
    WHERE own.id = ?2)";

/// The epoch of the space, and encoded cells by digest.
type Found = (Epoch, HashMap<[u8; 16], Bytes>);

async fn one_cell(connection: &mut SqliteConnection, id: i64, key: &TierKey) -> Raw<Found> {
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

async fn many_cells(connection: &mut SqliteConnection, id: i64, batch: &[(TierKey, Op)]) -> Raw<Found> {
    // One snapshot for the whole batch.
    let mut snapshot = connection.begin().await?;
    let now: i64 = sqlx::query_scalar("SELECT epoch FROM spaces WHERE id = ?")
        .bind(id)
        .fetch_one(&mut *snapshot)
        .await?;
    let mut cells = HashMap::with_capacity(batch.len());
    for part in batch.chunks(SELECT_KEYS) {
        let places = vec!["?"; part.len()].join(", ");
        let text = format!("SELECT digest, cell FROM cells WHERE space = ? AND digest IN ({places})");
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
    Ok((epoch(now), cells))
}

async fn enter(connection: &mut SqliteConnection, space: &Namespace) -> Raw<i64> {
    sqlx::query(
        "INSERT INTO spaces (namespace, tenant, role, epoch) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&space.name)
    .bind(&space.tenant)
    .bind(terms::role(space.role))
    .bind(Epoch::random().as_u64().cast_signed())
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar("SELECT id FROM spaces WHERE namespace = ? AND tenant IS ? AND role = ?")
        .bind(&space.name)
        .bind(&space.tenant)
        .bind(terms::role(space.role))
        .fetch_one(connection)
        .await
}

fn epoch(number: i64) -> Epoch {
    Epoch::from_u64(number.cast_unsigned())
}

fn decode(bytes: &Bytes) -> Result<Cell> {
    Cell::decode(bytes.clone())
        .ok_or_else(|| Error::new(ErrorKind::Undecodable, "a row of the file holds no cell"))
}
