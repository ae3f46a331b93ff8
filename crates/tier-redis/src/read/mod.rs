//! Reads. A hit is a plain GET, and concurrent reads share an MGET. When the last known epoch is not
//! fresh, the read asks for the epoch in the same command; at level `Bounded` it always asks for the
//! epoch and for the relay's watermark, so that all three are from one moment.
//!
//! - `batch`: reads of many keys.
//! - `mget`: the MGET command and its reply.
//! - `misses`: how often the reads miss that bring a loader.

mod batch;
mod mget;
mod misses;

use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{
    BatchCall, Batcher, Cell, Clock, Epoch, Fence, Level, Op, Reply, Result, State, Stored, TierKey, Version,
};
use tokio::time::Instant;

use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, server_error, unexpected_reply},
    namespace::NamespaceState,
    options::renew_options,
    renewal::renew_epochs,
    scripts::{CellBatchers, CellOp, CellOwner},
};

use mget::{Mget, index_of};
pub(crate) use misses::MissRatio;

/// The reads of one tier.
pub(crate) struct CellReader {
    pub(crate) owner: Arc<CellOwner>,
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) reads: Batcher<ReadCall>,
    pub(crate) scripts: Arc<CellBatchers>,
    pub(crate) misses: MissRatio,
}

/// What a read finds under a key.
enum Lookup {
    /// A live value or negative entry.
    Entry(Stored),
    Miss,
    /// The cell's epoch is not the last known one, so one of the two is out of date. A read that also
    /// asked for the epoch never finds this.
    EpochMismatch,
}

/// One cell to read.
pub(crate) struct CellRead {
    key: Bytes,
    /// The namespace whose epoch and watermark are read with the cell.
    status_of: Option<Arc<NamespaceState>>,
}

/// The reply to a [`CellRead`].
pub(crate) struct CellReply {
    cell: Option<Bytes>,
    /// The status of the namespace at the moment of the read, if it was asked for.
    status: Option<NamespaceStatus>,
}

/// What the server holds about a namespace and tenant.
#[derive(Clone, Copy, Debug, Default)]
struct NamespaceStatus {
    epoch: Option<Epoch>,
    /// The version that the relay's watermark proves. The epoch of the watermark's own cell is not read:
    /// the invalidations that it proves were made and stay made.
    watermark: Option<Version>,
}

impl CellReader {
    pub(crate) async fn get(&self, key: &TierKey) -> Result<Reply> {
        let found = match self.look_up(key, false).await? {
            Lookup::EpochMismatch => Box::pin(self.look_up(key, true)).await?,
            found => found,
        };
        Ok(match found {
            Lookup::Entry(stored) => Reply::Hit(stored),
            Lookup::Miss | Lookup::EpochMismatch => Reply::Miss(Fence::default()),
        })
    }

    /// The value, or a lease on a miss, within one budget: a GET and the lease script, or the script alone while
    /// misses are frequent.
    pub(crate) async fn lease(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let deadline = Instant::now() + self.owner.namespace.budget;
        let may_lease_first = self.may_lease_first(&op);
        let leases_first = may_lease_first && self.misses.are_frequent();
        if !leases_first {
            let found = self.look_up(key, false).await?;
            if may_lease_first {
                self.misses.record(!matches!(found, Lookup::Entry(_)));
            }
            if let Lookup::Entry(stored) = found
                && !leases_over(&op, stored.version)
            {
                return Ok(Reply::Hit(stored));
            }
        }
        match self.lease_plan(key, op) {
            LeasePlan::Answer(reply) => Ok(reply),
            LeasePlan::Script(op) => {
                let leased = Box::pin(self.scripts.run(op));
                if !leases_first {
                    return within(deadline, Effect::Read, leased).await;
                }
                self.renew();
                let reply = leased.await?;
                self.misses.record(matches!(reply, Reply::Miss(_)));
                Ok(reply)
            }
        }
    }

    /// Whether the lease script may answer in place of a plain read: it reads no watermark, and makes no lease at
    /// level `Ttl` where none is wanted.
    fn may_lease_first(&self, op: &Op) -> bool {
        matches!(op, Op::Lease { over: None, .. })
            && self.owner.namespace.level != Level::Ttl
            && self.owner.state.layout.watermark.is_none()
    }

    async fn look_up(&self, key: &TierKey, ask_epoch: bool) -> Result<Lookup> {
        let CellOwner { namespace, state, .. } = &*self.owner;
        let ask_epoch = ask_epoch || namespace.is_promoted || !state.epoch.is_fresh();
        if ask_epoch {
            self.renew();
        }
        // A watermark proves nothing about a copy of another epoch, and even a fresh epoch may have changed.
        let ask = ask_epoch || state.layout.watermark.is_some();
        let status_of = ask.then(|| Arc::clone(state));
        let reply = self.reads.call(CellRead { key: state.layout.cell(key), status_of }).await?;
        Ok(self.interpret(reply))
    }

    /// Renews in the background what ends on the server while a namespace is in use.
    fn renew(&self) {
        let CellOwner { namespace, state, .. } = &*self.owner;
        renew_options(&self.manager, state, namespace);
        renew_epochs(&self.manager, state);
    }

    /// Compares the epochs. The server has already removed expired cells.
    fn interpret(&self, reply: CellReply) -> Lookup {
        let Some(cell) = reply.cell.and_then(Cell::decode) else { return Lookup::Miss };
        let epoch = match reply.status {
            Some(status) => status.epoch,
            None => self.owner.state.epoch.get(),
        };
        if epoch != Some(cell.epoch) {
            return if reply.status.is_some() { Lookup::Miss } else { Lookup::EpochMismatch };
        }
        let body = match cell.state {
            State::Value => Some(cell.bytes),
            State::Negative => None,
            _ => return Lookup::Miss,
        };
        let watermark = reply.status.and_then(|status| status.watermark);
        Lookup::Entry(Stored::new(cell.version, cell.deadlines, body).with_watermark(watermark))
    }

    /// How the lease `op` is taken after a miss.
    fn lease_plan(&self, key: &TierKey, op: Op) -> LeasePlan {
        let CellOwner { namespace, state, .. } = &*self.owner;
        match op {
            // Level `Ttl` has no fence and takes any fill, so a miss needs no second trip, except where other
            // callers are to wait for the token.
            Op::Lease { token, .. } if namespace.level == Level::Ttl && !token.is_of_loader() => {
                LeasePlan::Answer(Reply::Miss(Fence { token, version: version_now() }))
            }
            op => {
                let (cell, key) = (state.layout.cell(key), key.bytes.clone());
                LeasePlan::Script(CellOp { owner: Arc::clone(&self.owner), cell, key, op })
            }
        }
    }
}

/// How a lease is taken.
enum LeasePlan {
    /// The tier knows the reply, so no trip is needed.
    Answer(Reply),
    Script(CellOp),
}

/// Sends the reads of many callers: a lone read as a GET, concurrent ones as one MGET.
pub(crate) struct ReadCall {
    pub(crate) manager: Arc<ConnectionManager>,
}

impl BatchCall for ReadCall {
    type Request = CellRead;
    type Reply = CellReply;

    async fn one(&self, read: CellRead) -> Result<CellReply> {
        if let Some(state) = read.status_of {
            let states = std::slice::from_ref(&state);
            let mget = Mget::new(std::iter::once(&read.key), states);
            let (mut cells, statuses) = Box::pin(mget.send(&self.manager)).await?;
            return Ok(CellReply { cell: cells.pop().flatten(), status: statuses.first().copied() });
        }
        let mut get = Cmd::with_capacity(2, read.key.len() + 3);
        get.arg("GET").arg(read.key.as_ref());
        Ok(CellReply { cell: cell_in(self.manager.send(&get, Effect::Read).await?)?, status: None })
    }

    async fn many(&self, reads: Vec<CellRead>) -> Result<Vec<CellReply>> {
        let mut states: Vec<Arc<NamespaceState>> = Vec::new();
        for state in reads.iter().filter_map(|read| read.status_of.as_ref()) {
            if index_of(state, &states).is_none() {
                states.push(Arc::clone(state));
            }
        }
        let mget = Mget::new(reads.iter().map(|read| &read.key), &states);
        let (cells, statuses) = mget.send(&self.manager).await?;
        let status = |read: &CellRead| statuses.get(index_of(read.status_of.as_ref()?, &states)?).copied();
        let cells = cells.into_iter().zip(&reads);
        Ok(cells.map(|(cell, read)| CellReply { cell, status: status(read) }).collect())
    }
}

/// The bytes under a key. A value of another Redis type counts as none.
fn cell_in(value: Value) -> Result<Option<Bytes>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::ServerError(answer) if answer.code() == "WRONGTYPE" => Ok(None),
        Value::ServerError(answer) => Err(server_error(&answer)),
        _ => Err(unexpected_reply()),
    }
}

/// Whether `op` asks for a lease although the entry of this version is there.
fn leases_over(op: &Op, version: Version) -> bool {
    matches!(op, Op::Lease { over: Some(over), .. } if *over == version)
}

/// The version of a fill at level `Ttl`, where nothing compares versions. It grows with the time.
fn version_now() -> Version {
    Version::NONE.next(Clock::system().micros())
}
