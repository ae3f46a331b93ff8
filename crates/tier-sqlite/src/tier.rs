//! The tier of one namespace: reads run beside the writer, and writes share transactions.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use terrace_tier::{
    BatchCall, BatchLimits, Batcher, Error, ErrorKind, Finding, FrontStore, Op, Reply, Result, Role,
    SendMark, SendWatch, Tier, TierKey,
};

use crate::{
    error::{During, missing_reply, typed},
    namespace::NamespaceRow,
    read,
    timer::within,
    write::{self, WriteRequest},
};

/// The most operations of concurrent callers in one transaction.
const BATCH: usize = 256;
/// The most bytes of keys and values in one transaction of concurrent callers, unless a single one has more.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The most operations in the queue.
const QUEUE: usize = 100_000;

/// One namespace in SQLite.
pub(crate) struct SqliteTier {
    pub(crate) row: Arc<NamespaceRow>,
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
            .with_bytes(BATCH_BYTES)
            .with_workers(2)
            .with_queue(QUEUE)
            .without_budget();
        Self { writes: Batcher::new(WriteCall(Arc::clone(&row)), limits), row }
    }

    /// Whether the operation may turn out to change nothing.
    fn may_only_read(&self, op: &Op) -> bool {
        matches!(op, Op::Get | Op::Lease { .. })
    }

    async fn many(&self, batch: &[(TierKey, Op)], mark: &SendMark) -> Result<Vec<Result<Reply>>> {
        if !batch.iter().all(|(_, op)| self.may_only_read(op)) {
            return write::apply(&self.row, batch, mark).await;
        }
        let mut replies = read::replies(&self.row, batch).await?;
        let unanswered: Vec<_> = (0..batch.len()).filter(|index| replies[*index].is_none()).collect();
        if !unanswered.is_empty() {
            let writes: Vec<_> = unanswered.iter().map(|index| batch[*index].clone()).collect();
            for (index, reply) in unanswered.into_iter().zip(write::apply(&self.row, &writes, mark).await?) {
                replies[index] = Some(reply);
            }
        }
        Ok(replies.into_iter().map(|reply| reply.unwrap_or_else(|| Err(missing_reply()))).collect())
    }

    /// Applies an operation of one caller, in a transaction that concurrent callers share, within what is
    /// `left` of the budget. After that a write is [`ErrorKind::Unknown`] if its transaction had begun.
    async fn share(&self, write: (TierKey, Op), left: Duration) -> Result<Reply> {
        let reads = self.may_only_read(&write.1);
        let (watch, mark) = SendWatch::new();
        let called = within(left, self.writes.call(WriteRequest { write, mark })).await;
        match called.unwrap_or_else(|| Err(Error::timeout(self.row.namespace.budget))) {
            Ok(reply) => reply,
            Err(error) if reads => Err(error),
            Err(error) => Err(watch.failed(error)),
        }
    }
}

impl BatchCall for WriteCall {
    type Request = WriteRequest;
    type Reply = Result<Reply>;

    /// Boxed, so that the future of a call that joins a batch stays small.
    fn one(&self, request: WriteRequest) -> impl Future<Output = Result<Result<Reply>>> + Send {
        Box::pin(async move { self.many(vec![request]).await?.pop().ok_or_else(missing_reply) })
    }

    async fn many(&self, requests: Vec<WriteRequest>) -> Result<Vec<Result<Reply>>> {
        write::apply_requests(&self.0, requests).await
    }

    fn bytes(&self, request: &WriteRequest) -> usize {
        let (key, op) = &request.write;
        let body = match op {
            Op::Fill { body, .. } | Op::Put { body, .. } => body.as_ref().map_or(0, bytes::Bytes::len),
            _ => 0,
        };
        key.bytes.len() + body
    }
}

#[async_trait]
impl Tier for SqliteTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        op.ensure_known()?;
        let budget = self.row.namespace.budget;
        let request = [(key.clone(), op)];
        let mut left = budget;
        if self.may_only_read(&request[0].1) {
            let began = Instant::now();
            let replies = within(budget, read::replies(&self.row, &request)).await;
            let replies = replies.ok_or_else(|| Error::timeout(budget))??;
            if let Some(Some(reply)) = replies.into_iter().next() {
                return reply;
            }
            left = budget.saturating_sub(began.elapsed());
        }
        let [request] = request;
        self.share(request, left).await
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        if let Some(unknown) = batch.iter().find_map(|(_, op)| op.ensure_known().err()) {
            return batch.iter().map(|_| Err(unknown.clone())).collect();
        }
        let budget = self.row.namespace.budget_for(batch.len());
        let reads = batch.iter().all(|(_, op)| self.may_only_read(op));
        let (watch, mark) = SendWatch::new();
        let failed = match within(budget, self.many(&batch, &mark)).await {
            Some(Ok(replies)) => return replies,
            Some(Err(error)) => error,
            None if reads => Error::timeout(budget),
            None => watch.failed(Error::timeout(budget)),
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

    fn front_store(&self) -> Option<&dyn FrontStore> {
        if self.row.namespace.role == Role::Store { Some(self) } else { None }
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
