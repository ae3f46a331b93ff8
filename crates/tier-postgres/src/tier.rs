//! The tier of one namespace: which statement serves which operation, within the budget.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use terrace_core::{
    Epoch, Error, ErrorKind, Gate, GateLimits, InvalidationLog, Level, Op, Reply, Result, Role, Tier,
    TierKey, Trip,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    Postgres,
    error::{During, typed},
    number::signed,
    read::{Ask, Leases, Reads, is_read, missing},
    rows,
    space::Room,
    write,
};

/// So many single reads go out alone before they share round trips.
const DIRECT_READS: usize = 4;
/// The most keys of one statement.
const BATCH_KEYS: usize = 1000;
/// The most bytes of values in one statement, one value excepted.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// The most single reads that wait.
const QUEUED_READS: usize = 100_000;

/// One namespace in Postgres.
pub(crate) struct PostgresTier {
    room: Arc<Room>,
    reads: Gate<Reads>,
    leases: Gate<Leases>,
    handle: Postgres,
}

impl PostgresTier {
    pub(crate) fn new(room: Room, handle: Postgres) -> Self {
        let room = Arc::new(room);
        let limits = GateLimits {
            direct: DIRECT_READS,
            batch: BATCH_KEYS,
            queue: QUEUED_READS,
            budget: room.space.budget,
        };
        Self {
            reads: Gate::new(Reads(Arc::clone(&room)), limits),
            leases: Gate::new(Leases(Arc::clone(&room)), limits),
            room,
            handle,
        }
    }

    async fn read_many(&self, batch: &[(TierKey, Op)]) -> Result<Vec<Reply>> {
        let rows = self.reads.trip().many(batch.iter().map(|(key, _)| key.digest).collect()).await?;
        rows.iter().zip(batch).map(|(row, (_, op))| self.reads.trip().reply(row.as_deref(), op)).collect()
    }

    async fn lease_many(&self, batch: &[(TierKey, Op)]) -> Result<Vec<Reply>> {
        let asks = batch.iter().filter_map(|(key, op)| Ask::new(key, op)).collect();
        let rows = self.leases.trip().many(asks).await?;
        rows.iter().map(|row| rows::lease(row).map_err(|error| typed(error, During::Read))).collect()
    }

    /// Writes, and tells by the error whether anything was sent before the time was over.
    async fn write(&self, batch: &[(TierKey, Op)], until: Instant, budget: Duration) -> Result<Vec<Reply>> {
        let room = &self.room;
        let ready = async {
            let id = room.id().await?;
            let session = room.shared.session().await?;
            Ok((id, session))
        };
        let (id, session) = within(until, budget, ready).await?;
        match timeout_at(until, write::send(room, id, session, batch)).await {
            Ok(result) => result,
            Err(_) => {
                let message =
                    format!("no answer to a write within {budget:?}: it may or may not have happened");
                Err(Error::new(ErrorKind::Unknown, message))
            }
        }
    }

    async fn part(&self, part: &[(TierKey, Op)], until: Instant, budget: Duration) -> Result<Vec<Reply>> {
        let role = self.room.space.role;
        match part {
            [] => Ok(Vec::new()),
            [(_, op), ..] if is_read(role, op) => within(until, budget, self.read_many(part)).await,
            [(_, Op::Lease { .. }), ..] => within(until, budget, self.lease_many(part)).await,
            _ => self.write(part, until, budget).await,
        }
    }

    async fn new_epoch(&self) -> Result<()> {
        let room = &self.room;
        let id = room.id().await?;
        let mut session = room.shared.session().await?;
        let done = sqlx::query(room.shared.statements.clear.clone())
            .bind(id)
            .bind(signed(Epoch::random().as_u64()))
            .execute(session.connection()?)
            .await;
        room.note(session.end(done), During::Write)?;
        room.shared.cleared.notify_one();
        Ok(())
    }

    async fn round_trip(&self) -> Result<()> {
        let mut session = self.room.shared.session().await?;
        let done = sqlx::Connection::ping(session.connection()?).await;
        self.room.note(session.end(done), During::Read)
    }
}

#[async_trait]
impl Tier for PostgresTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        if is_read(self.room.space.role, &op) {
            let row = self.reads.call(key.digest).await?;
            return self.reads.trip().reply(row.as_deref(), &op);
        }
        if let Some(ask) = Ask::new(key, &op) {
            let row = self.leases.call(ask).await?;
            return rows::lease(&row).map_err(|error| typed(error, During::Read));
        }
        let budget = self.room.space.budget;
        let batch = [(key.clone(), op)];
        // Boxed, so that the future of a read stays small.
        Box::pin(self.write(&batch, Instant::now() + budget, budget)).await?.pop().ok_or_else(missing)
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let budget = self.room.space.budget_for(batch.len());
        let until = Instant::now() + budget;
        let mut replies = Vec::with_capacity(batch.len());
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(part_len(rest));
            match self.part(part, until, budget).await {
                Ok(answers) => replies.extend(answers.into_iter().map(Ok)),
                Err(error) => replies.extend(part.iter().map(|_| Err(error.clone()))),
            }
            rest = after;
        }
        replies
    }

    async fn clear(&self) -> Result<()> {
        if self.room.space.role == Role::Store {
            return Ok(());
        }
        let budget = self.room.space.budget;
        within(Instant::now() + budget, budget, self.new_epoch()).await
    }

    async fn ping(&self) -> Result<()> {
        let budget = self.room.space.budget;
        within(Instant::now() + budget, budget, self.round_trip()).await
    }

    async fn ready(&self) -> Result<()> {
        self.room.check_terms().await
    }

    fn keeps_budget(&self) -> bool {
        true
    }

    /// Level `Ttl` has no log: its puts have no order that a follower could go by.
    fn log(&self) -> Option<&dyn InvalidationLog> {
        (self.room.space.level != Level::Ttl).then_some(&self.handle)
    }
}

impl fmt::Debug for PostgresTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTier").field("space", &self.room.space).finish_non_exhaustive()
    }
}

/// How many operations from the front go into one statement.
fn part_len(batch: &[(TierKey, Op)]) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take(BATCH_KEYS).take_while(|(_, op)| {
        let before = bytes;
        bytes += match op {
            Op::Fill { body: Some(body), .. } | Op::Put { body: Some(body), .. } => body.len(),
            _ => 0,
        };
        before == 0 || bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

async fn within<T>(until: Instant, budget: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout_at(until, work).await.unwrap_or_else(|_| Err(Error::timeout(budget)))
}

#[cfg(test)]
mod tests {
    use terrace_core::{Backend, Space};

    use super::*;

    #[test]
    fn the_future_of_a_read_is_small() -> Result<()> {
        let space = Space {
            namespace: "small".to_owned(),
            tenant: None,
            role: Role::Store,
            level: Level::Fenced,
            schema: 1,
            shape: 1,
            budget: Duration::from_secs(1),
        };
        let tier = Postgres::new("postgres://localhost/none")?.open(&space)?;
        let key = TierKey { bytes: bytes::Bytes::new(), digest: [0; 16] };
        let size_bytes = std::mem::size_of_val(&*tier.apply(&key, Op::Get));
        assert!(size_bytes < 1500, "{size_bytes}");
        Ok(())
    }
}
