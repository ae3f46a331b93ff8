//! The tier of one namespace: it chooses the statement for each operation, and keeps the budget.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use sqlx::postgres::PgRow;
use terrace_tier::{
    BatchCall, BatchLimits, Batcher, Epoch, Error, ErrorKind, Finding, FindingWatcher, FrontStore,
    InvalidationLog, LeaseWaiter, Level, Op, Reply, Result, Role, SendWatch, Tier, TierKey,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    error::{Phase, missing_reply, unreadable},
    log::Log,
    namespace::NamespaceRow,
    read::{LeaseCall, LeaseRequest, ReadCall, is_read},
    sql::{numbers::signed, rows},
    write::{self, Outcome, WriteCall, WriteRequest, body_bytes},
};

/// The most single calls of a kind (reads, leases, writes) that have a round trip of their own at a time;
/// further ones share round trips.
const DIRECT: usize = 4;
/// The most keys in one statement.
const BATCH_KEYS: usize = 1000;
/// The most shared statements of a kind at a time: each needs a connection and a process of the server.
const WORKERS: usize = 3;
/// The most bytes of values in one statement of a batch, unless a single value is larger.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// The most writes of concurrent callers in one statement.
const SHARED_WRITES: usize = 256;
/// The most bytes of keys and values in one statement of concurrent callers, unless a single one has more.
/// Beyond that the bytes take longer than the trip that is saved.
const SHARED_BYTES: usize = 1024 * 1024;
/// The most single calls of a kind that wait in the queue.
const QUEUED: usize = 100_000;

/// One namespace in Postgres.
pub(crate) struct PostgresTier {
    pub(crate) row: Arc<NamespaceRow>,
    reads: Batcher<ReadCall>,
    leases: Batcher<LeaseCall>,
    writes: Batcher<WriteCall>,
    log: Log,
}

impl PostgresTier {
    pub(crate) fn new(row: NamespaceRow) -> Self {
        let row = Arc::new(row);
        let log = Log(Arc::clone(&row.shared));
        let limits = BatchLimits::new(row.namespace.budget)
            .with_direct(DIRECT)
            .with_batch(BATCH_KEYS)
            .with_workers(WORKERS)
            .with_queue(QUEUED);
        let shared_writes = limits.with_batch(SHARED_WRITES).with_bytes(SHARED_BYTES);
        Self {
            reads: Batcher::new(ReadCall(Arc::clone(&row)), limits),
            leases: Batcher::new(LeaseCall(Arc::clone(&row)), limits),
            writes: Batcher::new(WriteCall(Arc::clone(&row)), shared_writes),
            row,
            log,
        }
    }

    async fn read_many(
        &self,
        batch: &[(TierKey, Op)],
        until: Instant,
        budget: Duration,
    ) -> Vec<Result<Reply>> {
        let call = self.reads.get_ref();
        let found = call.many(batch.iter().map(|(key, _)| key.digest).collect());
        let found = match within(until, budget, found).await {
            Ok(found) => found,
            Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
        };
        let replies = found.iter().zip(batch).map(|(found, (_, op))| call.reply(found.as_deref(), op));
        let mut replies: Vec<_> = replies.collect();
        let (missed, requests): (Vec<_>, Vec<_>) = (0..batch.len())
            .filter(|at| matches!(&replies[*at], Ok(reply) if self.needs_lease(reply, &batch[*at].1)))
            .filter_map(|at| Some((at, LeaseRequest::new(&batch[at].0, &batch[at].1)?)))
            .unzip();
        if !missed.is_empty() {
            let leased = self.lease_many(requests, until, budget).await;
            missed.into_iter().zip(leased).for_each(|(at, reply)| replies[at] = reply);
        }
        replies
    }

    /// Leases the keys of one statement, or each key alone where one of them may have failed it.
    async fn lease_many(
        &self,
        requests: Vec<LeaseRequest>,
        until: Instant,
        budget: Duration,
    ) -> Vec<Result<Reply>> {
        let call = self.leases.get_ref();
        let rows = match within(until, budget, call.many(requests.clone())).await {
            Ok(rows) => rows,
            Err(error) => return requests.iter().map(|_| Err(error.clone())).collect(),
        };
        let replies: Option<Vec<_>> = rows.iter().map(|row| row.as_deref().map(lease_reply)).collect();
        if let Some(replies) = replies {
            return replies;
        }
        let alone = async |(at, request)| {
            let row = within(until, budget, call.one(request)).await;
            (at, row.and_then(|row| lease_reply(&*row.ok_or_else(missing_reply)?)))
        };
        in_any_order(requests.into_iter().enumerate().map(alone)).await
    }

    /// Leases one key, in a statement that concurrent callers share.
    async fn lease_one(&self, request: LeaseRequest) -> Result<Reply> {
        let row = match self.leases.call(request.clone()).await? {
            Some(row) => Some(row),
            None => self.leases.get_ref().one(request).await?,
        };
        lease_reply(&*row.ok_or_else(missing_reply)?)
    }

    /// Whether `op` needs a lease after a plain read with `reply`: in a cache, a miss comes with one.
    fn needs_lease(&self, reply: &Reply, op: &Op) -> bool {
        let cache = self.row.namespace.role == Role::Cache;
        cache && matches!((reply, op), (Reply::Miss(_), Op::Lease { .. }))
    }

    /// Writes one key, in a statement that concurrent callers share.
    async fn write_one(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let budget = self.row.namespace.budget;
        let until = Instant::now() + budget;
        let (watch, mark) = SendWatch::new();
        let request = WriteRequest { write: (key.clone(), op), mark };
        match self.writes.call(request).await {
            Ok(Outcome::Answered(reply)) => reply,
            Ok(Outcome::RolledBack(write)) => self.write_alone(&write, until, budget).await,
            Err(error) => Err(watch.failed(error)),
        }
    }

    /// Writes one key in a statement of its own.
    async fn write_alone(&self, write: &(TierKey, Op), until: Instant, budget: Duration) -> Result<Reply> {
        let replies = self.send(std::slice::from_ref(write), until, budget).await;
        replies.map_err(|failure| failure.error)?.pop().ok_or_else(missing_reply)?
    }

    /// Writes the keys of one statement, or each key alone where one of them may have failed it.
    async fn write_many(
        &self,
        batch: &[(TierKey, Op)],
        until: Instant,
        budget: Duration,
    ) -> Vec<Result<Reply>> {
        let failure = match self.send(batch, until, budget).await {
            Ok(replies) => return replies,
            Err(failure) => failure,
        };
        if !failure.may_be_of_one_key {
            return batch.iter().map(|_| Err(failure.error.clone())).collect();
        }
        let alone = async |(at, write)| (at, self.write_alone(write, until, budget).await);
        in_any_order(batch.iter().enumerate().map(alone)).await
    }

    /// Sends the statement for `batch`. The error after a timeout says whether it was sent before.
    async fn send(
        &self,
        batch: &[(TierKey, Op)],
        until: Instant,
        budget: Duration,
    ) -> Result<Vec<Result<Reply>>, write::Failure> {
        let row = &self.row;
        let prepare = async {
            let id = row.id().await?;
            let session = row.shared.pool.session().await?;
            Ok((id, session))
        };
        let (id, session) = within(until, budget, prepare).await?;
        let sent = timeout_at(until, write::write(row, id, session, batch)).await;
        sent.unwrap_or_else(|_| {
            let message = format!("no reply to a write within {budget:?}: it may or may not have happened");
            Err(Error::new(ErrorKind::Unknown, message).into())
        })
    }

    /// Runs the operations of one statement, as [`part_len`] cut them.
    async fn run_part(&self, part: &[(TierKey, Op)], until: Instant, budget: Duration) -> Vec<Result<Reply>> {
        match part {
            [] => Vec::new(),
            [(_, op)] if body_bytes(op) > self.max_value_bytes() => vec![Err(self.too_large(op))],
            [(_, op), ..] if is_read(op) => self.read_many(part, until, budget).await,
            _ => self.write_many(part, until, budget).await,
        }
    }

    /// The most bytes of one value. Records have no limit.
    fn max_value_bytes(&self) -> usize {
        match self.row.namespace.role {
            Role::Cache => self.row.shared.max_value_bytes,
            Role::Store => usize::MAX,
        }
    }

    fn too_large(&self, op: &Op) -> Error {
        let (bytes, limit) = (body_bytes(op), self.max_value_bytes());
        let message = format!("a value of {bytes} bytes exceeds this tier's limit of {limit} bytes");
        Error::new(ErrorKind::TooLarge, message)
    }

    async fn new_epoch(&self) -> Result<()> {
        let row = &self.row;
        let id = row.id().await?;
        let mut session = row.shared.pool.session().await?;
        let done = sqlx::query(row.shared.statements().clear.clone())
            .bind(id)
            .bind(signed(Epoch::random().as_u64()))
            .execute(session.connection()?)
            .await;
        row.typed(session.end(done), Phase::Write)?;
        row.shared.cleaner.cleared();
        Ok(())
    }

    async fn round_trip(&self) -> Result<()> {
        let mut session = self.row.shared.pool.session().await?;
        let done = sqlx::Connection::ping(session.connection()?).await;
        self.row.typed(session.end(done), Phase::Read)
    }
}

#[async_trait]
impl Tier for PostgresTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let budget = self.row.namespace.budget;
        if is_read(&op) {
            let until = Instant::now() + budget;
            let found = self.reads.call(key.digest).await?;
            let reply = self.reads.get_ref().reply(found.as_deref(), &op)?;
            return match self.needs_lease(&reply, &op).then(|| LeaseRequest::new(key, &op)).flatten() {
                // Boxed, so that the future of a hit stays small.
                Some(request) => within(until, budget, Box::pin(self.lease_one(request))).await,
                None => Ok(reply),
            };
        }
        write::kind(&op)?;
        if op.term().is_some() {
            // It is no write of a caller: the front itself gathers writes.
            let batch = vec![(key.clone(), op)];
            return self.apply_many(batch).await.pop().unwrap_or_else(|| Err(missing_reply()));
        }
        if body_bytes(&op) > self.max_value_bytes() {
            return Err(self.too_large(&op));
        }
        // Boxed, so that the future of a read stays small.
        Box::pin(self.write_one(key, op)).await
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let is_unknown = |op: &Op| op.term().is_some() && self.row.namespace.role == Role::Cache;
        let unknown = |(_, op): &(TierKey, Op)| {
            write::kind(op).err().or_else(|| is_unknown(op).then(|| op.unsupported()))
        };
        if let Some(unknown) = batch.iter().find_map(unknown) {
            return batch.iter().map(|_| Err(unknown.clone())).collect();
        }
        let budget = self.row.namespace.budget_for(batch.len());
        let until = Instant::now() + budget;
        let mut replies = Vec::with_capacity(batch.len());
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(part_len(rest, self.max_value_bytes()));
            replies.extend(self.run_part(part, until, budget).await);
            rest = after;
        }
        replies
    }

    async fn clear(&self) -> Result<()> {
        if self.row.namespace.role == Role::Store {
            return Ok(());
        }
        let budget = self.row.namespace.budget;
        within(Instant::now() + budget, budget, self.new_epoch()).await
    }

    async fn ping(&self) -> Result<()> {
        let budget = self.row.namespace.budget;
        within(Instant::now() + budget, budget, self.round_trip()).await
    }

    async fn ready(&self) -> Result<Vec<Finding>> {
        self.row.look_at_all().await
    }

    fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        self.row.shared.watch_findings(watcher);
    }

    fn keeps_budget(&self) -> bool {
        true
    }

    /// A store has no leases: the first load to create a record wins, and all callers get that record.
    fn front_store(&self) -> Option<&dyn FrontStore> {
        self.fronts()
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        (self.row.namespace.role == Role::Cache).then_some(self)
    }

    /// Level `Ttl` has no log: its puts have no order that a follower could use.
    fn log(&self) -> Option<&dyn InvalidationLog> {
        (self.row.namespace.level != Level::Ttl).then_some(&self.log)
    }
}

impl fmt::Debug for PostgresTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTier").field("namespace", &self.row.namespace).finish_non_exhaustive()
    }
}

/// The reply in a row of the lease function.
/// Runs calls of single keys, a few at a time, and gives their replies in the order of their numbers. A call that
/// waits for a lock holds up no other one.
async fn in_any_order<F>(calls: impl Iterator<Item = F>) -> Vec<Result<Reply>>
where
    F: Future<Output = (usize, Result<Reply>)>,
{
    let calls: Vec<_> = calls.collect();
    let mut replies: Vec<_> = stream::iter(calls).buffer_unordered(DIRECT).collect().await;
    replies.sort_unstable_by_key(|(at, _)| *at);
    replies.into_iter().map(|(_, reply)| reply).collect()
}

fn lease_reply(row: &PgRow) -> Result<Reply> {
    rows::lease(row).map_err(|error| unreadable(error, Phase::Read))
}

/// The number of operations from the front that go into one statement. An operation whose value exceeds
/// `limit` is alone in its part, so that no other one is refused with it.
fn part_len(batch: &[(TierKey, Op)], limit: usize) -> usize {
    let mut bytes = 0;
    let fitting = batch.iter().take(BATCH_KEYS).take_while(|(_, op)| {
        let (before, body) = (bytes, body_bytes(op));
        bytes += body;
        body <= limit && (before == 0 || bytes <= BATCH_BYTES)
    });
    fitting.count().max(1)
}

/// Runs `work` until the instant `until`, or gives the error of a spent `budget`.
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
        let namespace =
            Namespace::new("small", Role::Store).with_type(1, 1).with_budget(Duration::from_secs(1));
        let tier = Postgres::new("postgres://localhost/none")?.open(&namespace)?;
        let key = TierKey { bytes: bytes::Bytes::new(), digest: [0; 16] };
        let size_bytes = std::mem::size_of_val(&*tier.apply(&key, Op::Get));
        assert!(size_bytes < 1500, "{size_bytes}");
        Ok(())
    }
}
