//! Reads of many keys: one MGET for each page, and for the misses one call of the lease script for many.

use std::sync::Arc;

use bytes::Bytes;
use terrace_tier::{Fence, Op, Reply, Result, TierKey};
use tokio::time::Instant;

use super::{CellReader, CellReply, LeasePlan, Lookup, leases_over, mget::Mget};
use crate::{connection::within, error::Effect, scripts::CellOp};

/// The most keys of one MGET. A longer one would delay all other callers.
const PAGE_KEYS: usize = 512;

impl CellReader {
    /// One reply for each read, in order.
    pub(crate) async fn read_batch(
        &self,
        batch: Vec<(TierKey, Op)>,
        deadline: Instant,
    ) -> Vec<Result<Reply>> {
        self.renew();
        let are_leases = !batch.is_empty() && batch.iter().all(|(_, op)| self.may_lease_first(op));
        if are_leases && self.misses.are_frequent() {
            return self.lease_batch(batch, deadline).await;
        }
        let state = &self.owner.state;
        let cells: Vec<Bytes> = batch.iter().map(|(key, _)| state.layout.cell(key)).collect();
        let mut found = Vec::with_capacity(cells.len());
        for page in cells.chunks(PAGE_KEYS) {
            match within(deadline, Effect::Read, self.read_page(page)).await {
                Ok(lookups) => found.extend(lookups.into_iter().map(Ok)),
                Err(error) => found.extend(page.iter().map(|_| Err(error.clone()))),
            }
        }
        let mut replies = Vec::with_capacity(cells.len());
        let (mut leases, mut lease_at) = (Vec::new(), Vec::new());
        for (found, (key, op)) in found.into_iter().zip(batch) {
            let reply = match found {
                Err(error) => Err(error),
                Ok(Lookup::Entry(stored)) if !leases_over(&op, stored.version) => Ok(Reply::Hit(stored)),
                Ok(_) if op == Op::Get => Ok(Reply::Miss(Fence::default())),
                Ok(_) => match self.lease_plan(&key, op) {
                    LeasePlan::Answer(reply) => Ok(reply),
                    LeasePlan::Script(op) => {
                        lease_at.push(replies.len());
                        leases.push(op);
                        Ok(Reply::Miss(Fence::default()))
                    }
                },
            };
            replies.push(reply);
        }
        if are_leases {
            replies.iter().flatten().for_each(|reply| self.misses.record(matches!(reply, Reply::Miss(_))));
        }
        let leases = self.scripts.run_many(&leases, deadline).await;
        lease_at.into_iter().zip(leases).for_each(|(index, lease)| replies[index] = lease);
        replies
    }

    /// The values, or leases on misses, by the lease script alone.
    async fn lease_batch(&self, batch: Vec<(TierKey, Op)>, deadline: Instant) -> Vec<Result<Reply>> {
        let owner = &self.owner;
        let ops: Vec<CellOp> = batch
            .into_iter()
            .map(|(key, op)| CellOp {
                owner: Arc::clone(owner),
                cell: owner.state.layout.cell(&key),
                key: key.bytes,
                op,
            })
            .collect();
        let replies = self.scripts.run_many(&ops, deadline).await;
        replies.iter().flatten().for_each(|reply| self.misses.record(matches!(reply, Reply::Miss(_))));
        replies
    }

    /// One MGET of the cells with these keys and of the status of their namespace.
    async fn read_page(&self, cells: &[Bytes]) -> Result<Vec<Lookup>> {
        let mget = Mget::new(cells.iter(), std::slice::from_ref(&self.owner.state));
        let (cells, statuses) = mget.send(&self.manager).await?;
        let status = statuses.first().copied();
        let replies = cells.into_iter().map(|cell| CellReply { cell, status });
        Ok(replies.map(|reply| self.interpret(reply)).collect())
    }
}
