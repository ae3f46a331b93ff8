//! Invalidations and removals change every tier from far to near, even if some of the tiers fail.

use std::sync::Arc;

use terrace_tier::{Deadlines, Op, Reply, Role, TierKey, Version, unexpected};

use super::{
    Removal,
    guard::{DebtGuard, WriteGuard},
};
use crate::{
    Cache, Error, ErrorKind, Event, Key, Result, Value,
    behind::{Behind, FrontCondition, FrontOutcome, FrontWrite},
    cache::{Distinct, Inner, Occurrence},
    chain::{Chain, FULL_BUDGET, TierSlot},
    near::{Near, TenantKey, TenantKeyRef},
};

/// The state of one key's removal while it is sent to the tiers.
struct PendingRemoval {
    key: Option<TierKey>,
    /// The version of the removal, after the store has issued it.
    version: Option<Version>,
    existed: bool,
    /// The highest version of a tombstone that a cache tier left.
    tombstone: Version,
    /// The error of the store, whose record may still exist.
    store_error: Option<Error>,
    errors: Vec<Error>,
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    pub(crate) async fn remove_one(&self, key: K, removal: Removal) -> Result<bool> {
        if self.chain.is_local() {
            self.inner.begin_call(&self.chain, false)?;
            self.inner.note_request(removal.recorded(), self.chain.tenant, &key);
            return Ok(self.remove_local(key));
        }
        self.remove_all(vec![key], removal).await.pop().unwrap_or(Ok(false))
    }

    /// Removes keys. The results say for each key, in order, whether it had a value.
    pub(crate) async fn remove_all(&self, keys: Vec<K>, removal: Removal) -> Vec<Result<bool>> {
        if let Err(error) = self.inner.begin_call(&self.chain, false) {
            return keys.iter().map(|_| Err(error.clone())).collect();
        }
        keys.iter().for_each(|key| self.inner.note_request(removal.recorded(), self.chain.tenant, key));
        if self.chain.is_local() {
            return keys.into_iter().map(|key| Ok(self.remove_local(key))).collect();
        }
        let keys: Vec<_> = keys.into_iter().map(|key| self.tenant_key(key)).collect();
        let (mut distinct, mut firsts) = (Distinct::new(), Vec::with_capacity(keys.len()));
        let occurrences: Vec<Occurrence> = keys.iter().map(|key| distinct.add(Arc::clone(key))).collect();
        for (key, occurrence) in keys.into_iter().zip(&occurrences) {
            if let Occurrence::First(_) = occurrence {
                firsts.push(key);
            }
        }
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        let task = async move {
            let removed = inner.remove_through(&chain, firsts, removal).await;
            removed.into_iter().map(|(result, _tombstone)| result).collect::<Vec<_>>()
        };
        match self.inner.to_end(&self.chain, task).await {
            // Only the first removal of a repeated key can find a value.
            Ok(results) => occurrences
                .iter()
                .map(|occurrence| match occurrence {
                    Occurrence::First(number) => results[*number].clone(),
                    Occurrence::Repeated(number) => results[*number].clone().map(|_existed| false),
                })
                .collect(),
            Err(error) => occurrences.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Drops a key from the near tier of a cache that has no other tier.
    fn remove_local(&self, key: K) -> bool {
        let existed = self.inner.remove_local(&TenantKey { tenant: self.chain.tenant, key });
        self.inner.tell(&Event::Dropped);
        existed
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    pub(crate) fn remove_local(&self, key: &TenantKey<K>) -> bool {
        self.flights.write_now(key, || {
            let held = self.near.get(&TenantKeyRef { tenant: key.tenant, key: &key.key });
            self.drop_near(key);
            held.is_some_and(|entry| entry.value().is_some() && entry.is_fresh(self.clock.now()))
        })
    }

    /// Asks every tier, and reports the tiers that failed. Each key has its result, and the highest version
    /// of a tombstone that a cache tier left.
    pub(crate) async fn remove_through(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        keys: Vec<Arc<TenantKey<K>>>,
        removal: Removal,
    ) -> Vec<(Result<bool>, Version)> {
        let guards: Vec<_> = keys.iter().map(|key| WriteGuard::begin(self, key)).collect();
        let mut pending: Vec<PendingRemoval> =
            keys.iter().map(|key| PendingRemoval::of(self.tier_key(chain, key))).collect();
        if let Some(fills) = self.fencing.unfenced() {
            fills.ended(pending.iter().filter_map(|one| one.key.as_ref())).await;
        }
        if let Some(behind) = self.behind.as_ref().filter(|_| removal == Removal::Everywhere) {
            self.remove_front(behind, chain, &guards, &mut pending).await;
            return self.end_removals(guards, pending);
        }
        let debts = DebtGuard::new(chain.tiers.iter(), pending.iter().filter_map(|one| one.key.clone()));
        for slot in chain.far_to_near() {
            if slot.shared.role == Role::Cache || removal == Removal::Everywhere {
                let deletes = removal == Removal::Everywhere && chain.is_authority(slot);
                self.remove_in(slot, deletes, &mut pending).await;
            }
        }
        debts.settle();
        self.end_removals(guards, pending)
    }

    /// The front acknowledges the removals. The store and the copies follow.
    async fn remove_front(
        &self,
        behind: &Arc<Behind>,
        chain: &Arc<Chain>,
        guards: &[WriteGuard<K, V, N>],
        pending: &mut [PendingRemoval],
    ) {
        let deadlines = Deadlines::forever(self.clock.now());
        let (mut at, mut writes) = (Vec::new(), Vec::new());
        for (index, (one, guard)) in pending.iter_mut().zip(guards).enumerate() {
            let near = self.near.get(&TenantKeyRef { tenant: guard.key.tenant, key: &guard.key.key });
            one.existed =
                near.is_some_and(|entry| entry.value().is_some() && entry.is_fresh(self.clock.now()));
            if let Some(key) = one.key.clone() {
                at.push(index);
                let (body, copies, condition) = (None, None, FrontCondition::Always);
                writes.push(FrontWrite { key, body, deadlines, copies, condition });
            }
        }
        for (at, outcome) in at.into_iter().zip(behind.write(chain, writes).await) {
            match outcome {
                Ok(FrontOutcome::Kept { existed, .. }) => pending[at].existed |= existed,
                Ok(FrontOutcome::Refused(_)) => {}
                Err(error) => pending[at].store_error = Some(error),
            }
        }
    }

    fn end_removals(
        &self,
        guards: Vec<WriteGuard<K, V, N>>,
        pending: Vec<PendingRemoval>,
    ) -> Vec<(Result<bool>, Version)> {
        for guard in guards {
            let key = Arc::clone(&guard.key);
            guard.finish(Version::NONE, |_| self.drop_near(&key));
        }
        let removed = pending.into_iter().map(|one| (one.tombstone, one.result()));
        let removed = removed.inspect(|(_, result)| self.tell_dropped(result));
        removed.map(|(tombstone, result)| (result, tombstone)).collect()
    }

    /// Reports a key that every tier has dropped.
    pub(crate) fn tell_dropped<T>(&self, result: &Result<T>) {
        if result.is_ok() {
            self.tell(&Event::Dropped);
        }
    }

    async fn remove_in(&self, slot: &TierSlot, deletes: bool, pending: &mut [PendingRemoval]) {
        let is_store = slot.shared.role == Role::Store;
        let keyed = |(at, one): (usize, &PendingRemoval)| one.key.clone().map(|key| (at, key));
        let (wanted, keys): (Vec<usize>, Vec<TierKey>) = pending.iter().enumerate().filter_map(keyed).unzip();
        let tombstone_ttl = if is_store { self.periods.removed } else { self.periods.tombstone };
        let batch = wanted.iter().zip(&keys).map(|(&at, key)| {
            let op = match deletes {
                true => Op::Remove { tombstone_ttl },
                false => Op::Invalidate { version: pending[at].version, tombstone_ttl },
            };
            (key.clone(), op)
        });
        let replies = slot.call_many(FULL_BUDGET, batch.collect()).await;
        for ((at, key), reply) in wanted.into_iter().zip(keys).zip(replies) {
            let one = &mut pending[at];
            match reply {
                Ok(Reply::Done { existed, version }) => {
                    one.existed |= existed;
                    if !is_store {
                        one.tombstone = one.tombstone.max(version);
                    }
                    // Without a store no tier's version is above those of all copies, so all copies are
                    // dropped, of any version.
                    if deletes && is_store {
                        one.version = Some(version);
                    }
                }
                Ok(reply) => one.errors.push(unexpected(&reply)),
                Err(error) if is_store => one.store_error = Some(error),
                Err(error) => {
                    slot.owe(&key);
                    one.errors.push(error);
                }
            }
        }
    }
}

/// The error of a change that these errors of tiers left unconfirmed. Its text holds theirs, so it has no
/// source that would repeat them.
pub(crate) fn unconfirmed_error(what: &str, errors: &[Error]) -> Error {
    let failed: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    let message = format!("a tier {what}, and reads of this process go past it: {}", failed.join("; "));
    let cure =
        "other processes may read the old value until the tier answers; this process repeats the change";
    Error::new(ErrorKind::Partial, message).with_cure(cure)
}

impl PendingRemoval {
    fn of(key: Result<TierKey>) -> Self {
        let (key, errors) = match key {
            Ok(key) => (Some(key), Vec::new()),
            Err(error) => (None, vec![error]),
        };
        Self { key, version: None, existed: false, tombstone: Version::NONE, store_error: None, errors }
    }

    fn result(mut self) -> Result<bool> {
        if let Some(error) = self.store_error {
            return Err(error);
        }
        if self.errors.is_empty() {
            return Ok(self.existed);
        }
        if self.key.is_none() {
            return Err(self.errors.remove(0));
        }
        Err(unconfirmed_error("did not confirm that the key was dropped", &self.errors))
    }
}
