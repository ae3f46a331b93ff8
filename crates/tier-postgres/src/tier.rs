//! The tier of one namespace: which statement serves which operation, within the budget.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use terrace_tier::{
    BatchCall, BatchLimits, Batcher, Epoch, Error, ErrorKind, InvalidationLog, LeaseWaiter, Level, Op, Reply,
    Result, Role, Tier, TierKey,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    error::{During, typed},
    log::Log,
    number::signed,
    read::{Ask, Leases, Reads, is_read, missing},
    rows,
    space::NamespaceRow,
    write,
};

/// So many single reads go out alone before they share round trips.
const DIRECT_READS: usize = 4;
/// The most keys of one statement.
const BATCH_KEYS: usize = 1000;
/// So many shared statements at a time: each takes a connection and a process of the server.
const BATCHES: usize = 3;
/// The most bytes of values in one statement, one value excepted.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// The most single reads that wait.
const QUEUED_READS: usize = 100_000;

/// One namespace in Postgres.
pub(crate) struct PostgresTier {
    pub(crate) room: Arc<NamespaceRow>,
    reads: Batcher<Reads>,
    leases: Batcher<Leases>,
    log: Log,
}

impl PostgresTier {
    pub(crate) fn new(room: NamespaceRow) -> Self {
        let room = Arc::new(room);
        let log = Log(Arc::clone(&room.shared));
        let limits = BatchLimits::new(room.space.budget)
            .with_direct(DIRECT_READS)
            .with_batch(BATCH_KEYS)
            .with_workers(BATCHES)
            .with_queue(QUEUED_READS);
        Self {
            reads: Batcher::new(Reads(Arc::clone(&room)), limits),
            leases: Batcher::new(Leases(Arc::clone(&room)), limits),
            room,
            log,
        }
    }

    async fn read_many(&self, batch: &[(TierKey, Op)]) -> Result<Vec<Reply>> {
        let trip = self.reads.get_ref();
        let rows = trip.many(batch.iter().map(|(key, _)| key.digest).collect()).await?;
        let replies = rows.iter().zip(batch).map(|(row, (_, op))| trip.reply(row.as_deref(), op));
        let mut replies = replies.collect::<Result<Vec<_>>>()?;
        let open: Vec<_> =
            (0..batch.len()).filter(|at| self.needs_lease(&replies[*at], &batch[*at].1)).collect();
        if !open.is_empty() {
            let asks = open.iter().filter_map(|at| Ask::new(&batch[*at].0, &batch[*at].1)).collect();
            for (at, row) in open.into_iter().zip(self.leases.get_ref().many(asks).await?) {
                replies[at] = leased(&row)?;
            }
        }
        Ok(replies)
    }

    /// Whether a plain read has not answered `op`: a miss in a cache comes with a lease.
    fn needs_lease(&self, reply: &Reply, op: &Op) -> bool {
        let cache = self.room.space.role == Role::Cache;
        cache && matches!((reply, op), (Reply::Miss(_), Op::Lease { .. }))
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
        match part {
            [] => Ok(Vec::new()),
            [(_, op)] if body_bytes(op) > self.limit() => Err(self.too_large(op)),
            [(_, op), ..] if is_read(op) => within(until, budget, self.read_many(part)).await,
            _ => self.write(part, until, budget).await,
        }
    }

    /// The most bytes of one value: copies have a bound, records are kept whatever their size.
    fn limit(&self) -> usize {
        match self.room.space.role {
            Role::Cache => self.room.shared.max_value_bytes,
            Role::Store => usize::MAX,
        }
    }

    fn too_large(&self, op: &Op) -> Error {
        let (bytes, limit) = (body_bytes(op), self.limit());
        let message = format!("a value of {bytes} bytes is above this tier's limit of {limit}");
        Error::new(ErrorKind::TooLarge, message)
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
        let budget = self.room.space.budget;
        if is_read(&op) {
            let until = Instant::now() + budget;
            let row = self.reads.call(key.digest).await?;
            let reply = self.reads.get_ref().reply(row.as_deref(), &op)?;
            return match self.needs_lease(&reply, &op).then(|| Ask::new(key, &op)).flatten() {
                // Boxed, so that the future of a hit stays small.
                Some(ask) => leased(&*within(until, budget, Box::pin(self.leases.call(ask))).await?),
                None => Ok(reply),
            };
        }
        write::kind(&op)?;
        if body_bytes(&op) > self.limit() {
            return Err(self.too_large(&op));
        }
        let batch = [(key.clone(), op)];
        // Boxed, so that the future of a read stays small.
        Box::pin(self.write(&batch, Instant::now() + budget, budget)).await?.pop().ok_or_else(missing)
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        if let Some(unknown) = batch.iter().find_map(|(_, op)| write::kind(op).err()) {
            return batch.iter().map(|_| Err(unknown.clone())).collect();
        }
        let budget = self.room.space.budget_for(batch.len());
        let until = Instant::now() + budget;
        let mut replies = Vec::with_capacity(batch.len());
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(part_len(rest, self.limit()));
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

    /// A store has no leases: the first to create a record wins, and everyone gets it.
    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        (self.room.space.role == Role::Cache).then_some(self)
    }

    /// Level `Ttl` has no log: its puts have no order that a follower could go by.
    fn log(&self) -> Option<&dyn InvalidationLog> {
        (self.room.space.level != Level::Ttl).then_some(&self.log)
    }
}

impl fmt::Debug for PostgresTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTier").field("space", &self.room.space).finish_non_exhaustive()
    }
}

/// The reply that a row of the lease function stands for.
fn leased(row: &PgRow) -> Result<Reply> {
    rows::lease(row).map_err(|error| typed(error, During::Read))
}

/// How many operations from the front go into one statement. One whose value is above `limit` is
/// on its own, and nobody else is refused with it.
fn part_len(batch: &[(TierKey, Op)], limit: usize) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take(BATCH_KEYS).take_while(|(_, op)| {
        let (before, body) = (bytes, body_bytes(op));
        bytes += body;
        body <= limit && (before == 0 || bytes <= BATCH_BYTES)
    });
    fits.count().max(1)
}

fn body_bytes(op: &Op) -> usize {
    match op {
        Op::Fill { body: Some(body), .. } | Op::Put { body: Some(body), .. } => body.len(),
        _ => 0,
    }
}

async fn within<T>(until: Instant, budget: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout_at(until, work).await.unwrap_or_else(|_| Err(Error::timeout(budget)))
}

#[cfg(test)]
mod tests {
    use terrace_tier::{Backend, Namespace};

    use super::*;
    use crate::Postgres;

    #[test]
    fn the_future_of_a_read_is_small() -> Result<()> {
        let space = Namespace::new("small", Role::Store).with_type(1, 1).with_budget(Duration::from_secs(1));
        let tier = Postgres::new("postgres://localhost/none")?.open(&space)?;
        let key = TierKey { bytes: bytes::Bytes::new(), digest: [0; 16] };
        let size_bytes = std::mem::size_of_val(&*tier.apply(&key, Op::Get));
        assert!(size_bytes < 1500, "{size_bytes}");
        Ok(())
    }
}
