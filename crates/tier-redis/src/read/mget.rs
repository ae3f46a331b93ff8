//! One MGET: cells, then the epoch of each namespace, then the keys that namespaces share.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{Cell, Epoch, Result, State, Version, Watermark};
use tokio::time::Instant;

use super::{NamespaceStatus, cell_in};
use crate::{
    connection::ConnectionManager,
    error::{Effect, server_error, unexpected_reply},
    namespace::NamespaceState,
};

/// An MGET of cells and of the status of their namespaces.
pub(super) struct Mget<'a> {
    states: &'a [Arc<NamespaceState>],
    /// The keys that namespaces share: watermarks, and the epochs of all tenants.
    shared_keys: Vec<&'a [u8]>,
    cells: usize,
    command: Cmd,
}

impl<'a> Mget<'a> {
    pub(super) fn new<'k>(
        cell_keys: impl Iterator<Item = &'k Bytes> + Clone,
        states: &'a [Arc<NamespaceState>],
    ) -> Self {
        let (cells, bytes) = cell_keys.clone().fold((0, 0), |(count, sum), key| (count + 1, sum + key.len()));
        let mut shared_keys = Vec::new();
        for key in states.iter().flat_map(|state| [shared_epoch(state), watermark(state)]).flatten() {
            if !shared_keys.contains(&key) {
                shared_keys.push(key);
            }
        }
        let others = states.len() + shared_keys.len();
        let mut command = Cmd::with_capacity(1 + cells + others, bytes + 4 + 64 * others);
        command.arg("MGET");
        cell_keys.for_each(|key| {
            command.arg(key.as_ref());
        });
        states.iter().for_each(|state| {
            command.arg(&state.layout.epoch);
        });
        command.arg(&shared_keys);
        Self { states, shared_keys, cells, command }
    }

    /// Sends the command. Returns the cells and the status of each namespace, and records the epochs.
    pub(super) async fn send(
        self,
        manager: &Arc<ConnectionManager>,
    ) -> Result<(Vec<Option<Bytes>>, Vec<NamespaceStatus>)> {
        let expected = self.cells + self.states.len() + self.shared_keys.len();
        let sent_at = Instant::now();
        let mut values = match manager.send(&self.command, Effect::Read).await? {
            Value::Array(values) if values.len() == expected => values,
            Value::ServerError(answer) => return Err(server_error(&answer)),
            _ => return Err(unexpected_reply()),
        };
        let others = values.split_off(self.cells);
        let (epochs, shared) = others.split_at(self.states.len());
        let statuses = self.states.iter().zip(epochs).map(|(state, epoch)| {
            let status = self.status(state, epoch, shared);
            state.epoch.record(status.epoch, sent_at);
            status
        });
        let statuses = statuses.collect();
        Ok((values.into_iter().map(cell_in).collect::<Result<_>>()?, statuses))
    }

    fn status(&self, state: &NamespaceState, own_epoch: &Value, shared: &[Value]) -> NamespaceStatus {
        let value_of = |key| shared.get(self.shared_keys.iter().position(|known| *known == key)?);
        let epoch = match shared_epoch(state) {
            None => epoch_in(own_epoch),
            Some(key) => {
                let both = epoch_in(own_epoch).zip(value_of(key).and_then(epoch_in));
                both.map(|(own, shared)| Epoch::from_u64(own.as_u64() ^ shared.as_u64()))
            }
        };
        NamespaceStatus { epoch, watermark: watermark(state).and_then(value_of).and_then(version_in) }
    }
}

fn shared_epoch(state: &NamespaceState) -> Option<&[u8]> {
    state.layout.shared_epoch.as_ref().map(String::as_bytes)
}

fn watermark(state: &NamespaceState) -> Option<&[u8]> {
    state.layout.watermark.as_deref()
}

/// The index of `state` in `states`.
pub(super) fn index_of(state: &Arc<NamespaceState>, states: &[Arc<NamespaceState>]) -> Option<usize> {
    states.iter().position(|known| Arc::ptr_eq(known, state))
}

fn epoch_in(value: &Value) -> Option<Epoch> {
    match value {
        Value::BulkString(bytes) => {
            bytes.as_slice().try_into().ok().map(u64::from_be_bytes).map(Epoch::from_u64)
        }
        _ => None,
    }
}

fn version_in(value: &Value) -> Option<Version> {
    let Value::BulkString(bytes) = value else { return None };
    let cell = Cell::decode(Bytes::copy_from_slice(bytes))?;
    (cell.state == State::Value).then(|| Watermark::version_in(&cell.bytes)).flatten()
}
