//! The calls of concurrent callers share scripts and trips.

use std::{sync::Arc, time::Duration};

use terrace_tier::{BatchCall, BatchLimits, Batcher, ErrorKind, Reply, Result};
use tokio::time::Instant;

use super::{
    CellOp, Script, ScriptReply,
    pipeline::{CALL_BYTES, CALL_CELLS, send_cell, send_cells, trip_ends},
};
use crate::{
    connection::{ConnectionManager, no_reply, within},
    error::{Effect, error, mixed_batch},
};

/// With fewer outstanding calls than this, an operation goes out alone.
const DIRECT: usize = 2;
/// The calls of a script under way at a time: one fills while the server runs the other.
const WORKERS: usize = 2;
const QUEUE: usize = 16_384;

/// The scripts that work on cells.
const SCRIPTS: [Script; 6] =
    [Script::Lease, Script::Fill, Script::Put, Script::Invalidate, Script::Remove, Script::Expire];

/// A batcher for each script that works on cells. All tiers of a handle that have the same budget share them.
pub(crate) struct CellBatchers {
    manager: Arc<ConnectionManager>,
    /// In the order of [`SCRIPTS`].
    batchers: [Batcher<BatchedScript>; 6],
}

impl CellBatchers {
    pub(crate) fn new(manager: &Arc<ConnectionManager>, budget: Duration) -> Self {
        let limits = BatchLimits::new(budget)
            .with_direct(DIRECT)
            .with_batch(CALL_CELLS)
            .with_bytes(CALL_BYTES)
            .with_workers(WORKERS)
            .with_queue(QUEUE);
        let batcher = |script| Batcher::new(BatchedScript { manager: Arc::clone(manager), script }, limits);
        Self { manager: Arc::clone(manager), batchers: SCRIPTS.map(batcher) }
    }

    /// Runs one operation, with those of other callers where there are some. Its budget counts the time in the
    /// queue.
    pub(crate) async fn run(&self, op: CellOp) -> Result<Reply> {
        let (script, owner) = (op.script()?, Arc::clone(&op.owner));
        match self.batchers[script as usize].call(op).await {
            Ok(reply) => reply?.decode(&owner.state),
            Err(error) if error.kind() == ErrorKind::Timeout => Err(no_reply(script.effect())),
            Err(error) => Err(error),
        }
    }

    /// Runs operations of one kind, with as many round trips as their number and size need. One reply for each, in
    /// order.
    pub(crate) async fn run_many(&self, ops: &[CellOp], deadline: Instant) -> Vec<Result<Reply>> {
        let Some(script) = ops.first().map(CellOp::script) else { return Vec::new() };
        let script = match script {
            Ok(script) => script,
            Err(unsupported) => return ops.iter().map(|_| Err(unsupported.clone())).collect(),
        };
        if ops.iter().any(|op| op.script().ok() != Some(script)) {
            return ops.iter().map(|_| Err(mixed_batch())).collect();
        }
        let (mut replies, mut start) = (Vec::with_capacity(ops.len()), 0);
        for end in trip_ends(ops.iter().map(CellOp::size)) {
            let (trip, sent_at) = (&ops[start..end], Instant::now());
            let answer = if sent_at < deadline {
                let sent = send_cells(&self.manager, script, trip, script.effect());
                within(deadline, script.effect(), sent).await
            } else {
                let message = "the budget of the batch ended before this operation was sent";
                Err(error(ErrorKind::Timeout, message))
            };
            match answer {
                Ok(values) => replies.extend(
                    values
                        .into_iter()
                        .zip(trip)
                        .map(|(value, op)| ScriptReply { value, sent_at }.decode(&op.owner.state)),
                ),
                Err(error) => replies.extend(trip.iter().map(|_| Err(error.clone()))),
            }
            start = end;
        }
        replies
    }
}

impl Script {
    /// Whether a missing reply leaves open what has happened. A lease that was granted without a reply ends by
    /// itself.
    const fn effect(self) -> Effect {
        match self {
            Self::Lease => Effect::Read,
            _ => Effect::Write,
        }
    }
}

/// Sends the operations of many callers that one script runs.
pub(crate) struct BatchedScript {
    manager: Arc<ConnectionManager>,
    script: Script,
}

impl BatchCall for BatchedScript {
    type Request = CellOp;
    /// An error of the connection is a reply. So what else fails is the end of the budget, or a full queue.
    type Reply = Result<ScriptReply>;

    async fn one(&self, op: CellOp) -> Result<Self::Reply> {
        let sent_at = Instant::now();
        let sent = send_cell(&self.manager, self.script, op, self.script.effect()).await;
        Ok(sent.map(|value| ScriptReply { value, sent_at }))
    }

    async fn many(&self, mut ops: Vec<CellOp>) -> Result<Vec<Self::Reply>> {
        let sent_at = Instant::now();
        let order = group(&mut ops);
        let values = match send_cells(&self.manager, self.script, &ops, self.script.effect()).await {
            Ok(values) => values,
            Err(error) => return Ok(ops.iter().map(|_| Err(error.clone())).collect()),
        };
        let mut replies: Vec<_> = order.into_iter().zip(values).collect();
        replies.sort_unstable_by_key(|(index, _)| *index);
        Ok(replies.into_iter().map(|(_, value)| Ok(ScriptReply { value, sent_at })).collect())
    }

    fn bytes(&self, op: &CellOp) -> usize {
        op.size()
    }
}

/// Brings the operations of each owner together, and keeps their order. Returns where each was before.
fn group(ops: &mut Vec<CellOp>) -> Vec<usize> {
    let owner_of = |op: &CellOp| Arc::as_ptr(&op.owner).addr();
    if ops.is_sorted_by_key(owner_of) {
        return (0..ops.len()).collect();
    }
    let mut numbered: Vec<_> = std::mem::take(ops).into_iter().enumerate().collect();
    numbered.sort_by_key(|(_, op)| owner_of(op));
    let (order, grouped) = numbered.into_iter().unzip();
    *ops = grouped;
    order
}
