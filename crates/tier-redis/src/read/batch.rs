//! Reads of many keys: one MGET for each page, and for the misses the lease scripts in pipelines.

use bytes::Bytes;
use terrace_tier::{Fence, Op, Reply, Result, TierKey};
use tokio::time::Instant;

use super::{CellReader, CellReply, Lookup, leases_over, mget::Mget};
use crate::{
    connection::within,
    error::Effect,
    options::renew_options,
    renewal::renew_epochs,
    scripts::{Batch, PAGE_REQUESTS},
};

impl CellReader {
    /// One reply for each read, in order.
    pub(crate) async fn read_batch(
        &self,
        batch: Vec<(TierKey, Op)>,
        deadline: Instant,
    ) -> Vec<Result<Reply>> {
        renew_options(&self.manager, &self.state, &self.namespace);
        renew_epochs(&self.manager, &self.state);
        let keys: Vec<Bytes> = batch.iter().map(|(key, _)| self.state.layout.cell(key)).collect();
        let mut found = Vec::with_capacity(keys.len());
        for page in keys.chunks(PAGE_REQUESTS) {
            match within(deadline, Effect::Read, self.read_page(page)).await {
                Ok(lookups) => found.extend(lookups.into_iter().map(Ok)),
                Err(error) => found.extend(page.iter().map(|_| Err(error.clone()))),
            }
        }
        let mut replies = Vec::with_capacity(keys.len());
        let mut leases = Batch::with_capacity(0);
        let mut lease_indexes = Vec::new();
        for ((found, key), (_, op)) in found.into_iter().zip(keys).zip(batch) {
            let reply = match found {
                Err(error) => Err(error),
                Ok(Lookup::Entry(stored)) if !leases_over(&op, stored.version) => Ok(Reply::Hit(stored)),
                Ok(_) => {
                    if op != Op::Get {
                        lease_indexes.push(replies.len());
                        let size = key.len();
                        leases.push(self.lease_action(key, op), size);
                    }
                    Ok(Reply::Miss(Fence::default()))
                }
            };
            replies.push(reply);
        }
        let leases = leases.send(&self.manager, &self.state, deadline, Effect::Read).await;
        for (index, lease) in lease_indexes.into_iter().zip(leases) {
            replies[index] = lease;
        }
        replies
    }

    /// One MGET of the cells with these keys and of the status of their namespace.
    async fn read_page(&self, keys: &[Bytes]) -> Result<Vec<Lookup>> {
        let mget = Mget::new(keys.iter(), std::slice::from_ref(&self.state));
        let (cells, statuses) = mget.send(&self.manager).await?;
        let status = statuses.first().copied();
        let replies = cells.into_iter().map(|cell| CellReply { cell, status });
        Ok(replies.map(|reply| self.interpret(reply)).collect())
    }
}
