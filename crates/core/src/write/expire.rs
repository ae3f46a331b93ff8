//! `expire` gives another life to a value that a tier or the store already has.

use std::{sync::Arc, time::Duration};

use terrace_tier::{Deadlines, Op, Reply, TierKey, unexpected};

use super::{
    guard::{DebtGuard, WriteGuard},
    unconfirmed_error,
};
use crate::{
    Cache, Error, ErrorKind, Key, Result, Value,
    behind::{Behind, FrontCondition, FrontOutcome, FrontWrite},
    cache::Inner,
    chain::{Chain, FULL_BUDGET, TierSlot},
    freshness::ProofSource,
    near::{Near, TenantKey, TenantKeyRef},
};

/// How often a new life is tried while other writers change the value.
const EXPIRE_ROUNDS: usize = 8;

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    pub(crate) async fn expire_one(&self, key: K, ttl: Duration) -> Result<bool> {
        self.inner.begin_call(&self.chain, false)?;
        if matches!(self.inner.proof_source, ProofSource::Age) {
            let message =
                "at level Bounded without a store or a watched origin, only a put gives a value another life";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let deadlines = Deadlines::ttl(self.inner.clock.now(), ttl);
        let key = self.tenant_key(key);
        if self.chain.is_local() {
            return Ok(self.inner.expire_local(&key, deadlines));
        }
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        let task = async move { inner.expire_through(&chain, &key, deadlines).await };
        self.inner.to_end(&self.chain, task).await?
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    fn expire_local(&self, key: &TenantKey<K>, deadlines: Deadlines) -> bool {
        self.flights.write_now(key, || {
            let held = self.near.get(&TenantKeyRef { tenant: key.tenant, key: &key.key });
            let Some(entry) = held.filter(|entry| entry.value().is_some()) else { return false };
            if !entry.is_fresh(self.clock.now()) {
                return false;
            }
            let valid_until = self.max_staleness.end(entry.proven_at(), entry.covered_by_log());
            let deadlines = self.near_deadlines(deadlines, None);
            entry.set_deadlines(deadlines, valid_until);
            self.near_expiry.note(deadlines.expires_at, &self.tasks);
            true
        })
    }

    async fn expire_through(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        key: &Arc<TenantKey<K>>,
        deadlines: Deadlines,
    ) -> Result<bool> {
        let tier_key = self.tier_key(chain, key)?;
        let _guard = WriteGuard::begin(self, key);
        if let Some(fills) = self.fencing.unfenced() {
            fills.ended(std::iter::once(&tier_key)).await;
        }
        if let Some(behind) = &self.behind {
            return self.expire_front(behind, chain, tier_key, deadlines).await;
        }
        let debts = DebtGuard::new(chain.followers(), std::iter::once(tier_key.clone()));
        let (mut existed, mut failed, mut unconfirmed) = (None, None, None);
        for slot in chain.far_to_near() {
            let op = self.expire_op(chain, slot, deadlines);
            match (slot.call(FULL_BUDGET, &tier_key, op).await, existed) {
                (Ok(Reply::Done { existed: here, .. }), _) => existed = existed.or(Some(here)),
                (Ok(reply), _) => return Err(unexpected(&reply)),
                (Err(error), None) => {
                    // The authority may nevertheless have changed the life, and no copy may outlive the
                    // record.
                    existed = Some(false);
                    unconfirmed = Some(error);
                }
                (Err(error), Some(_)) => {
                    slot.owe(&tier_key);
                    failed = failed.or(Some(error));
                }
            }
        }
        debts.settle();
        if let Some(error) = unconfirmed {
            return Err(error);
        }
        if let Some(error) = failed {
            return Err(unconfirmed_error("did not drop its copy with the old life", &[error]));
        }
        Ok(existed.unwrap_or_default())
    }

    /// Writes the value that is there with its new life, as a write with a version of its own. The guard of the
    /// caller drops near's entry, which has the old life.
    async fn expire_front(
        &self,
        behind: &Arc<Behind>,
        chain: &Arc<Chain>,
        key: TierKey,
        deadlines: Deadlines,
    ) -> Result<bool> {
        for _ in 0..EXPIRE_ROUNDS {
            let Some(record) = behind.record(chain, &key).await? else { return Ok(false) };
            let condition = FrontCondition::Version(record.version);
            let (key, body) = (key.clone(), record.body);
            let write = FrontWrite { key, body, deadlines, copies: None, condition };
            match behind.write(chain, vec![write]).await.pop() {
                Some(Ok(FrontOutcome::Kept { .. })) => return Ok(true),
                // Another write came in between.
                Some(Ok(FrontOutcome::Refused(_))) | None => {}
                Some(Err(error)) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Busy, "other writers of the key were faster too often; try again"))
    }

    /// Only the authority's entry gets the new life. A copy is dropped together with its lease, since a
    /// fill that is under way has the old life. The next read makes a new copy.
    fn expire_op(&self, chain: &Chain, slot: &TierSlot, deadlines: Deadlines) -> Op {
        match chain.is_authority(slot) {
            true => Op::Expire { deadlines: self.copy_deadlines(deadlines, slot.shared.ttl) },
            false => Op::Invalidate { version: None, tombstone_ttl: self.periods.tombstone },
        }
    }
}
