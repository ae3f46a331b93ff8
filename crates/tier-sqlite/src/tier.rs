//! The tier of one namespace: reads run beside the writer, and writes share transactions.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use terrace_tier::{
    BatchCall, BatchLimits, Batcher, Error, ErrorKind, Finding, Op, Reply, Result, Role, Tier, TierKey,
};

use crate::{
    error::{During, typed},
    namespace::NamespaceRow,
    read,
    timer::within,
    write,
};

/// The most operations of one transaction.
const BATCH: usize = 256;
/// The most operations in the queue.
const QUEUE: usize = 100_000;

/// One namespace in SQLite.
pub(crate) struct SqliteTier {
    row: Arc<NamespaceRow>,
    writes: Batcher<WriteCall>,
}

/// Applies a batch of operations in one transaction.
struct WriteCall(Arc<NamespaceRow>);

impl SqliteTier {
    pub(crate) fn new(row: NamespaceRow) -> Self {
        let row = Arc::new(row);
        let limits = BatchLimits::new(row.namespace.budget)
            .with_direct(1)
            .with_batch(BATCH)
            .with_workers(2)
            .with_queue(QUEUE)
            .without_budget();
        Self { writes: Batcher::new(WriteCall(Arc::clone(&row)), limits), row }
    }

    /// Whether the operation may turn out to change nothing.
    fn may_only_read(&self, op: &Op) -> bool {
        matches!(op, Op::Get | Op::Lease { .. })
    }

    async fn many(&self, batch: &[(TierKey, Op)]) -> Result<Vec<Reply>> {
        if !batch.iter().all(|(_, op)| self.may_only_read(op)) {
            return write::apply(&self.row, batch).await;
        }
        let mut replies = read::replies(&self.row, batch).await?;
        let unanswered: Vec<_> = (0..batch.len()).filter(|index| replies[*index].is_none()).collect();
        if !unanswered.is_empty() {
            let writes: Vec<_> = unanswered.iter().map(|index| batch[*index].clone()).collect();
            for (index, reply) in unanswered.into_iter().zip(write::apply(&self.row, &writes).await?) {
                replies[index] = Some(reply);
            }
        }
        replies.into_iter().collect::<Option<_>>().ok_or_else(missing_reply)
    }
}

impl BatchCall for WriteCall {
    type Request = (TierKey, Op);
    type Reply = Reply;

    /// Boxed, so that the future of a call that joins a batch stays small.
    fn one(&self, request: (TierKey, Op)) -> impl Future<Output = Result<Reply>> + Send {
        Box::pin(async move { self.many(vec![request]).await?.pop().ok_or_else(missing_reply) })
    }

    async fn many(&self, requests: Vec<(TierKey, Op)>) -> Result<Vec<Reply>> {
        write::apply(&self.0, &requests).await
    }
}

#[async_trait]
impl Tier for SqliteTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        op.ensure_known()?;
        let reads = self.may_only_read(&op);
        let request = [(key.clone(), op)];
        if reads {
            let budget = self.row.namespace.budget;
            let replies = within(budget, read::replies(&self.row, &request)).await;
            let replies = replies.ok_or_else(|| Error::timeout(budget))??;
            if let Some(Some(reply)) = replies.into_iter().next() {
                return Ok(reply);
            }
        }
        let ([request], budget) = (request, self.row.namespace.budget);
        match within(budget, self.writes.call(request)).await {
            Some(reply) => reply,
            None if reads => Err(Error::timeout(budget)),
            None => Err(unknown(Error::timeout(budget))),
        }
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        if let Some(unknown) = batch.iter().find_map(|(_, op)| op.ensure_known().err()) {
            return batch.iter().map(|_| Err(unknown.clone())).collect();
        }
        let budget = self.row.namespace.budget_for(batch.len());
        let reads = batch.iter().all(|(_, op)| self.may_only_read(op));
        let failed = match within(budget, self.many(&batch)).await {
            Some(Ok(replies)) => return replies.into_iter().map(Ok).collect(),
            Some(Err(error)) => error,
            None if reads => Error::timeout(budget),
            None => unknown(Error::timeout(budget)),
        };
        batch.iter().map(|_| Err(failed.clone())).collect()
    }

    async fn clear(&self) -> Result<()> {
        if self.row.namespace.role == Role::Store {
            return Ok(());
        }
        let budget = self.row.namespace.budget;
        let cleared = within(budget, write::clear(&self.row)).await;
        cleared.unwrap_or_else(|| Err(unknown(Error::timeout(budget))))
    }

    async fn ping(&self) -> Result<()> {
        let budget = self.row.namespace.budget;
        let ping = async {
            let mut reader = self.row.shared.connections().await?.reader().await;
            sqlx::Connection::ping(reader.connection()).await.map_err(|error| typed(error, During::Read))
        };
        within(budget, ping).await.unwrap_or_else(|| Err(Error::timeout(budget)))
    }

    /// Opens the file and checks the options of the namespace. No other process uses the file, but an
    /// earlier run of the program may have used the namespace with other options.
    async fn ready(&self) -> Result<Vec<Finding>> {
        self.row.check_options().await.map(|()| Vec::new())
    }

    fn keeps_budget(&self) -> bool {
        true
    }
}

impl fmt::Debug for SqliteTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTier").field("namespace", &self.row.namespace).finish_non_exhaustive()
    }
}

fn unknown(error: Error) -> Error {
    Error::new(ErrorKind::Unknown, "a write did not end in time: it may or may not have taken effect")
        .with_source(error)
}

fn missing_reply() -> Error {
    Error::new(ErrorKind::Backend, "an operation got no reply")
}
