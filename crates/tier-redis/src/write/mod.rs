//! Writes: scripts, which concurrent callers share, or a plain SET at level `Ttl` while the epoch is fresh.
//!
//! - `reclaim`: the task that frees the memory of dead cells after clears.

mod reclaim;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};
use terrace_tier::{Cell, ErrorKind, Level, Op, Order, Reply, Result, State, TierKey, Token, Version};
use tokio::time::Instant;

pub(crate) use reclaim::Reclaimer;

use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, error, server_error, unexpected_reply},
    log::Log,
    scripts::{self, CellBatchers, CellOp, CellOwner, ScriptCall, body_bytes, end_of, trip_ends},
};

/// The writes of one tier.
pub(crate) struct CellWriter {
    pub(crate) owner: Arc<CellOwner>,
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) scripts: Arc<CellBatchers>,
    pub(crate) log: Arc<Log>,
    pub(crate) reclaimer: Arc<Reclaimer>,
    pub(crate) max_value_bytes: usize,
}

/// How a write is made.
enum Write {
    /// The tier knows the reply, so no trip is needed.
    Answer(Result<Reply>),
    /// A plain SET that stores this version.
    Set(Cmd, Version),
    Script(CellOp),
}

impl CellWriter {
    pub(crate) async fn write(&self, key: &TierKey, op: Op) -> Result<Reply> {
        match self.plan(key, op) {
            Write::Answer(reply) => reply,
            Write::Set(command, version) => {
                let deadline = Instant::now() + self.owner.namespace.budget;
                let sent = self.manager.send(&command, Effect::Write);
                stored(within(deadline, Effect::Write, sent).await?, version)
            }
            Write::Script(op) => self.scripts.run(op).await,
        }
    }

    /// One reply for each write, in order. The writes share calls and trips.
    pub(crate) async fn write_batch(
        &self,
        writes: Vec<(TierKey, Op)>,
        deadline: Instant,
    ) -> Vec<Result<Reply>> {
        let mut replies = Vec::with_capacity(writes.len());
        let (mut sets, mut set_at) = (Vec::new(), Vec::new());
        let (mut ops, mut op_at) = (Vec::new(), Vec::new());
        for (index, (key, op)) in writes.into_iter().enumerate() {
            // A write whose reply stays this one was not made.
            let mut reply = Err(unexpected_reply());
            match self.plan(&key, op) {
                Write::Answer(known) => reply = known,
                Write::Set(command, version) => {
                    sets.push((command, version));
                    set_at.push(index);
                }
                Write::Script(op) => {
                    ops.push(op);
                    op_at.push(index);
                }
            }
            replies.push(reply);
        }
        let scripts = self.scripts.run_many(&ops, deadline).await;
        op_at.into_iter().zip(scripts).for_each(|(index, reply)| replies[index] = reply);
        let stored = self.set_many(sets, deadline).await;
        set_at.into_iter().zip(stored).for_each(|(index, reply)| replies[index] = reply);
        replies
    }

    /// Sends plain SETs, one round trip for each page.
    async fn set_many(&self, sets: Vec<(Cmd, Version)>, deadline: Instant) -> Vec<Result<Reply>> {
        let mut replies = Vec::with_capacity(sets.len());
        let mut start = 0;
        for end in trip_ends(sets.iter().map(|(command, _)| command.get_packed_command().len())) {
            let page = &sets[start..end];
            start = end;
            let mut commands = Pipeline::with_capacity(page.len());
            page.iter().for_each(|(command, _)| _ = commands.add_command(command.clone()));
            let sent = self.manager.send_many(&commands, Effect::Write);
            match within(deadline, Effect::Write, sent).await {
                Ok(values) => {
                    replies.extend(
                        values.into_iter().zip(page).map(|(value, (_, version))| stored(value, *version)),
                    );
                }
                Err(error) => replies.extend(page.iter().map(|_| Err(error.clone()))),
            }
        }
        replies
    }

    /// Makes all copies dead, and frees their memory in the background.
    pub(crate) async fn clear(&self) -> Result<()> {
        let namespace = &self.owner.namespace;
        let epochs = self.owner.state.layout.clear_epochs();
        let call = scripts::clear(epochs, &self.log.keys, self.owner.entry_head());
        let deadline = Instant::now() + namespace.budget;
        match within(deadline, Effect::Write, call.run(&self.manager, Effect::Write)).await? {
            Value::Okay => {}
            Value::ServerError(answer) => return Err(server_error(&answer)),
            _ => return Err(unexpected_reply()),
        }
        self.after_clear(std::slice::from_ref(&namespace.tenant));
        Ok(())
    }

    /// Forgets the epochs that these clears changed, and frees the memory of the dead cells.
    pub(crate) fn after_clear(&self, clears: &[Option<String>]) {
        let cleared = self.log.cleared(&self.owner.namespace.name, clears);
        cleared.iter().for_each(|state| state.epoch.forget());
        self.reclaimer.reclaim(&self.manager, &cleared);
    }

    /// How `op` is made, or its answer if no trip is needed.
    fn plan(&self, key: &TierKey, op: Op) -> Write {
        let CellOwner { namespace, state, .. } = &*self.owner;
        let bytes = body_bytes(&op);
        if bytes > self.max_value_bytes {
            let limit = self.max_value_bytes;
            let message = format!("a value of {bytes} bytes is above this tier's limit of {limit}");
            return Write::Answer(Err(error(ErrorKind::TooLarge, message)));
        }
        let cell = state.layout.cell(key);
        let op = match op {
            Op::Fill { version, deadlines, body, .. }
            | Op::Put { order: Order::Unfenced(version), deadlines, body, .. }
                if namespace.level == Level::Ttl && state.epoch.is_fresh() =>
            {
                let epoch = state.epoch.get().unwrap_or_default();
                let state = if body.is_some() { State::Value } else { State::Negative };
                let bytes = body.unwrap_or_default();
                let value = Cell { state, version, epoch, token: Token::NONE, deadlines, bytes };
                return Write::Set(set(&cell, &value), version);
            }
            Op::Fill { version, deadlines, body, .. } if namespace.level == Level::Ttl => {
                let (order, tombstone_ttl) = (Order::Unfenced(version), Duration::ZERO);
                Op::Put { order, deadlines, body, tombstone_ttl }
            }
            Op::Fill { fence, .. } if fence.token == Token::NONE => {
                return Write::Answer(Ok(Reply::Refused(None)));
            }
            op => op,
        };
        Write::Script(CellOp { owner: Arc::clone(&self.owner), cell, key: key.bytes.clone(), op })
    }
}

/// The reply to a SET.
fn stored(value: Value, version: Version) -> Result<Reply> {
    match value {
        Value::Okay => Ok(Reply::Kept(version)),
        Value::ServerError(answer) => Err(server_error(&answer)),
        _ => Err(unexpected_reply()),
    }
}

/// A plain SET. The server removes the cell when it expires.
fn set(key: &Bytes, cell: &Cell) -> Cmd {
    let bytes = cell.encode();
    let mut command = Cmd::with_capacity(5, key.len() + bytes.len() + 32);
    command.arg("SET").arg(key.as_ref()).arg(bytes.as_ref());
    command.arg("PXAT").arg(end_of(&cell.deadlines).max(1));
    command
}
