//! Writes: a script for each operation, or a plain SET at level `Ttl` while the epoch is fresh.
//!
//! - `reclaim`: the task that frees the memory of dead cells after clears.

mod reclaim;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{
    Cell, Clock, ErrorKind, Level, Namespace, Op, Order, Reply, Result, State, TierKey, Token,
};
use tokio::time::Instant;

pub(crate) use reclaim::Reclaimer;

use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, error, server_error, unexpected_reply},
    log::{self, Log},
    namespace::NamespaceState,
    scripts::{self, Action, Batch, Request},
};

/// The writes of one tier.
pub(crate) struct CellWriter {
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) state: Arc<NamespaceState>,
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) log: Arc<Log>,
    pub(crate) reclaimer: Arc<Reclaimer>,
    /// The follower whose cache makes this tier's writes; zero for none.
    pub(crate) origin: AtomicU64,
    pub(crate) max_value_bytes: usize,
}

impl CellWriter {
    pub(crate) async fn write(&self, key: &TierKey, op: Op) -> Result<Reply> {
        match self.action(self.state.layout.cell(key), key, op) {
            Action::Answer(reply) => reply,
            Action::Send(request) => {
                let deadline = Instant::now() + self.namespace.budget;
                let sent = request.send(&self.manager, &self.state, Effect::Write);
                within(deadline, Effect::Write, sent).await
            }
        }
    }

    /// One reply for each write, in order. The scripts of a page share one trip.
    pub(crate) async fn write_batch(
        &self,
        writes: Vec<(TierKey, Op)>,
        deadline: Instant,
    ) -> Vec<Result<Reply>> {
        let mut batch = Batch::with_capacity(writes.len());
        for (key, op) in writes {
            let cell = self.state.layout.cell(&key);
            let size = cell.len() + body_bytes(&op);
            batch.push(self.action(cell, &key, op), size);
        }
        batch.send(&self.manager, &self.state, deadline, Effect::Write).await
    }

    /// Makes all copies dead, and frees their memory in the background.
    pub(crate) async fn clear(&self) -> Result<()> {
        let epochs = self.state.layout.clear_epochs();
        let call = scripts::clear(epochs, &self.log.keys, self.entry_tail(b""));
        let deadline = Instant::now() + self.namespace.budget;
        match within(deadline, Effect::Write, call.run(&self.manager, Effect::Write)).await? {
            Value::Okay => {}
            Value::ServerError(answer) => return Err(server_error(&answer)),
            _ => return Err(unexpected_reply()),
        }
        self.after_clear(std::slice::from_ref(&self.namespace.tenant));
        Ok(())
    }

    /// Forgets the epochs that these clears changed, and frees the memory of the dead cells.
    pub(crate) fn after_clear(&self, clears: &[Option<String>]) {
        let cleared = self.log.cleared(&self.namespace.name, clears);
        cleared.iter().for_each(|state| state.epoch.forget());
        self.reclaimer.reclaim(&self.manager, &cleared);
    }

    /// The request for `op`, or the answer if no trip is needed. `cell` is the Redis key of `key`.
    fn action(&self, cell: Bytes, key: &TierKey, op: Op) -> Action {
        let bytes = body_bytes(&op);
        if bytes > self.max_value_bytes {
            let limit = self.max_value_bytes;
            let message = format!("a value of {bytes} bytes is above this tier's limit of {limit}");
            return Action::Answer(Err(error(ErrorKind::TooLarge, message)));
        }
        match op {
            Op::Fill { version, deadlines, body, .. }
            | Op::Put { order: Order::Unfenced(version), deadlines, body, .. }
                if self.namespace.level == Level::Ttl && self.state.epoch.is_fresh() =>
            {
                let epoch = self.state.epoch.get().unwrap_or_default();
                let state = if body.is_some() { State::Value } else { State::Negative };
                let bytes = body.unwrap_or_default();
                let value = Cell { state, version, epoch, token: Token::NONE, deadlines, bytes };
                Action::Send(Request::Set(set(&cell, &value), version))
            }
            Op::Fill { version, deadlines, body, .. } if self.namespace.level == Level::Ttl => {
                let (order, tombstone_ttl) = (Order::Unfenced(version), Duration::ZERO);
                self.script_action(cell, key, Op::Put { order, deadlines, body, tombstone_ttl })
            }
            Op::Fill { fence, .. } if fence.token == Token::NONE => Action::Answer(Ok(Reply::Refused(None))),
            op => self.script_action(cell, key, op),
        }
    }

    fn script_action(&self, cell: Bytes, key: &TierKey, op: Op) -> Action {
        let layout = &self.state.layout;
        // A fill is not logged, because it changes nothing for readers.
        let entry_tail = if let Op::Fill { .. } = op { Bytes::new() } else { self.entry_tail(&key.bytes) };
        match scripts::change(cell, layout, &self.log.keys, entry_tail, op) {
            Ok(call) => Action::Send(Request::Script(call)),
            Err(unsupported) => Action::Answer(Err(unsupported)),
        }
    }

    /// The tier's part of a log entry; empty at level `Ttl`, which keeps no log.
    fn entry_tail(&self, key: &[u8]) -> Bytes {
        match self.namespace.level {
            Level::Ttl => Bytes::new(),
            _ => log::entry_tail(self.origin.load(Ordering::Relaxed), &self.namespace, key),
        }
    }
}

/// The longest life of a cell, as in `shared/life.lua`.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A plain SET. The server removes the cell when it expires.
fn set(key: &Bytes, cell: &Cell) -> Cmd {
    let bytes = cell.encode();
    let mut command = Cmd::with_capacity(5, key.len() + bytes.len() + 32);
    command.arg("SET").arg(key.as_ref()).arg(bytes.as_ref());
    let longest = Clock::system().now().after(LONGEST_LIFE);
    command.arg("PXAT").arg(cell.deadlines.expires_at.min(longest).as_millis().max(1));
    command
}

/// The size of the envelope in an operation.
fn body_bytes(op: &Op) -> usize {
    match op {
        Op::Fill { body: Some(body), .. } | Op::Put { body: Some(body), .. } => body.len(),
        _ => 0,
    }
}
