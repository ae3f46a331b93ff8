//! Another life for a value that is already there.

use std::{hash::Hash, sync::Arc};

use super::{
    ending::{DebtGuard, WriteGuard},
    inner::Inner,
};
use crate::{
    Deadlines, Error, ErrorKind, Near, Op, Reply, Result,
    chain::{Chain, TierSlot},
    near::{TenantKey, TenantKeyRef},
};

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Where the near tier is all there is.
    pub(crate) fn expire_local(&self, key: &TenantKey<K>, deadlines: Deadlines) -> bool {
        self.flights.write_now(key, || {
            let held = self.near.get(&TenantKeyRef { tenant: key.tenant, key: &key.key });
            let Some(entry) = held.filter(|entry| entry.value().is_some()) else { return false };
            if !entry.is_fresh(self.clock.now()) {
                return false;
            }
            let valid_until = self.within.end(entry.proven_at(), entry.covered_by_log());
            entry.set_deadlines(self.near_deadlines(deadlines, None), valid_until);
            true
        })
    }

    pub(crate) async fn expire_through(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        key: &Arc<TenantKey<K>>,
        deadlines: Deadlines,
    ) -> Result<bool> {
        let tier_key = self.tier_key(chain, key)?;
        let _ending = WriteGuard::begin(self, key);
        self.let_fills_end(std::iter::once(&tier_key)).await;
        let owing = DebtGuard::new(chain.followers(), std::iter::once(tier_key.clone()));
        let (mut existed, mut failed, mut unconfirmed) = (None, None, None);
        for place in chain.far_to_near() {
            let op = self.expire_op(chain, place, deadlines);
            match (place.call(&tier_key, op).await, existed) {
                (Ok(Reply::Done { existed: here, .. }), _) => existed = existed.or(Some(here)),
                (Ok(reply), _) => return Err(terrace_tier::unexpected(&reply)),
                (Err(error), None) => {
                    // It may have happened all the same: no copy may outlive the record.
                    existed = Some(false);
                    unconfirmed = Some(error);
                }
                (Err(error), Some(_)) => {
                    place.owe(&tier_key);
                    failed = failed.or(Some(error));
                }
            }
        }
        owing.settle();
        if let Some(error) = unconfirmed {
            return Err(error);
        }
        if let Some(error) = failed {
            let message = "the authority took the new life, and a copy did not; reads go past it";
            return Err(Error::new(ErrorKind::Partial, message).with_source(error));
        }
        Ok(existed.unwrap_or_default())
    }

    /// Only the authority's entry gets the new life. A copy is dropped, and its lease with it: one
    /// that is on its way there was made with the old life. The next read makes a new one.
    fn expire_op(&self, chain: &Chain, place: &TierSlot, deadlines: Deadlines) -> Op {
        match chain.authority().is_some_and(|first| Arc::ptr_eq(&first.line, &place.line)) {
            true => Op::Expire { deadlines: self.copy_deadlines(deadlines, place.line.ttl) },
            false => Op::Invalidate { version: None, tombstone_ttl: self.periods.tombstone },
        }
    }
}
