//! The tier of one namespace: reads beside the writer, writes that share transactions.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use terrace_tier::{
    BatchCall, BatchLimits, Batcher, Error, ErrorKind, Op, Reply, Result, Role, Tier, TierKey,
};
use tokio::time::timeout;

use crate::{error::typed, space::NamespaceRow};

/// The most operations of one transaction.
const BATCH: usize = 256;
/// The most operations that wait.
const QUEUE: usize = 100_000;

/// One namespace in SQLite.
pub(crate) struct SqliteTier {
    room: Arc<NamespaceRow>,
    writes: Batcher<Writes>,
}

/// Operations that write, in one transaction.
struct Writes(Arc<NamespaceRow>);

impl SqliteTier {
    pub(crate) fn new(room: NamespaceRow) -> Self {
        let room = Arc::new(room);
        let limits = BatchLimits::new(room.space.budget)
            .with_direct(1)
            .with_batch(BATCH)
            .with_workers(2)
            .with_queue(QUEUE);
        Self { writes: Batcher::new(Writes(Arc::clone(&room)), limits), room }
    }

    /// Whether the operation may turn out to change nothing.
    fn may_only_read(&self, op: &Op) -> bool {
        matches!(op, Op::Get | Op::Lease { .. })
    }

    async fn many(&self, batch: &[(TierKey, Op)]) -> Result<Vec<Reply>> {
        if !batch.iter().all(|(_, op)| self.may_only_read(op)) {
            return self.room.change(batch).await;
        }
        let mut replies = self.room.look(batch).await?;
        let open: Vec<_> = (0..batch.len()).filter(|index| replies[*index].is_none()).collect();
        if !open.is_empty() {
            let asks: Vec<_> = open.iter().map(|index| batch[*index].clone()).collect();
            for (index, reply) in open.into_iter().zip(self.room.change(&asks).await?) {
                replies[index] = Some(reply);
            }
        }
        replies.into_iter().collect::<Option<_>>().ok_or_else(unanswered)
    }
}

impl BatchCall for Writes {
    type Request = (TierKey, Op);
    type Reply = Reply;

    /// Boxed, so that the future of a call that joins a batch stays small.
    fn one(&self, request: (TierKey, Op)) -> impl Future<Output = Result<Reply>> + Send {
        Box::pin(async move { self.many(vec![request]).await?.pop().ok_or_else(unanswered) })
    }

    async fn many(&self, requests: Vec<(TierKey, Op)>) -> Result<Vec<Reply>> {
        self.0.change(&requests).await
    }
}

#[async_trait]
impl Tier for SqliteTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        op.ensure_known()?;
        let reads = self.may_only_read(&op);
        let ask = [(key.clone(), op)];
        if reads {
            let look = Box::pin(self.room.look(&ask));
            let found = timeout(self.room.space.budget, look).await;
            let found = found.map_err(|_| Error::timeout(self.room.space.budget))??;
            if let Some(Some(reply)) = found.into_iter().next() {
                return Ok(reply);
            }
        }
        let [ask] = ask;
        match self.writes.call(ask).await {
            Err(error) if error.kind() == ErrorKind::Timeout && !reads => Err(unknown(error)),
            reply => reply,
        }
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        if let Some(unknown) = batch.iter().find_map(|(_, op)| op.ensure_known().err()) {
            return batch.iter().map(|_| Err(unknown.clone())).collect();
        }
        let budget = self.room.space.budget_for(batch.len());
        let reads = batch.iter().all(|(_, op)| self.may_only_read(op));
        let failed = match timeout(budget, self.many(&batch)).await {
            Ok(Ok(replies)) => return replies.into_iter().map(Ok).collect(),
            Ok(Err(error)) => error,
            Err(_) if reads => Error::timeout(budget),
            Err(_) => unknown(Error::timeout(budget)),
        };
        batch.iter().map(|_| Err(failed.clone())).collect()
    }

    async fn clear(&self) -> Result<()> {
        if self.room.space.role == Role::Store {
            return Ok(());
        }
        let budget = self.room.space.budget;
        timeout(budget, self.room.clear()).await.unwrap_or_else(|_| Err(unknown(Error::timeout(budget))))
    }

    async fn ping(&self) -> Result<()> {
        let budget = self.room.space.budget;
        let ping = async {
            let mut reader = self.room.shared.connections().await?.reader().await;
            sqlx::Connection::ping(reader.connection()).await.map_err(|error| typed(error, false))
        };
        timeout(budget, ping).await.unwrap_or_else(|_| Err(Error::timeout(budget)))
    }

    /// Opens the file. No other process has it, but an earlier run may have used the namespace otherwise.
    async fn ready(&self) -> Result<()> {
        self.room.check_terms().await
    }

    fn keeps_budget(&self) -> bool {
        true
    }
}

impl fmt::Debug for SqliteTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTier").field("space", &self.room.space).finish_non_exhaustive()
    }
}

fn unknown(error: Error) -> Error {
    Error::new(ErrorKind::Unknown, "a write did not end in time: it may or may not have happened")
        .with_source(error)
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Backend, "an operation got no answer")
}
