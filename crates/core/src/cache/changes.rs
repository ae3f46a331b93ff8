//! The truth's log and this process may drop the copies of one change: they do so once.

use std::sync::Arc;

use terrace_tier::Version;

use super::Cache;
use crate::{
    BorrowedKey, Key, Result, Value,
    freshness::{AppliedChange, ExpectedChange},
    near::Near,
    panics::joined,
    write::Removal,
};

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// The name of the backend whose log tells this cache of changes of its truth: the store, or the backend
    /// given to [`watch_origin`](super::Builder::watch_origin). `None` says that no log does.
    pub fn truth_log(&self) -> Option<&str> {
        let store = self.chain.store.as_ref().filter(|store| store.log().is_some());
        store.map(|store| store.shared.name).or(self.chain.origin_name.as_deref())
    }

    /// Says that this process will call [`invalidate_change`](Cache::invalidate_change) for a change as soon as
    /// it has committed. The relay of this process then waits for that call for up to 50 ms, and drops no copy
    /// twice. The caller drops the guard after the call, or if it makes none.
    pub fn expect_change(&self, change: u64) -> ExpectedChange {
        self.inner.applied.announce(change)
    }

    /// Drops the copies of a key as [`invalidate`](Cache::invalidate) does, for a change of the truth that its
    /// log reports under the number `change`. When the log reports it, this process drops no copy that came
    /// after this call. The caller knows that the change has committed.
    ///
    /// # Errors
    /// The errors are those of [`invalidate`](Cache::invalidate). The log then drops the copies.
    ///
    /// # Cost
    /// The costs are those of [`invalidate`](Cache::invalidate).
    pub async fn invalidate_change<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q, change: u64) -> Result<bool> {
        self.named("invalidate_change", self.apply_change(key.to_key(), change).await)
    }

    async fn apply_change(&self, key: K, number: u64) -> Result<bool> {
        self.inner.check_open()?;
        let Some(codec) = &self.inner.key_codec else {
            return self.remove_one(key, Removal::Copies).await;
        };
        let (bytes, tenant) = (codec.key(&key)?, self.chain.tenant_name.clone());
        let (inner, chain, key) = (Arc::clone(&self.inner), Arc::clone(&self.chain), self.tenant_key(key));
        // The same task drops the copies and says so, so that no cancellation comes between.
        // With a store, a copy that is read again has the version of its record, so no version tells the new
        // copy from the old one. With several tiers, one tombstone says nothing of the others.
        let issues = chain.store.is_none() && chain.tiers.len() == 1;
        // A removal gives its tombstone a version above those of all copies. An invalidation does not.
        let removal = if issues { Removal::Everywhere } else { Removal::Copies };
        let task = async move {
            let applied = &inner.applied;
            let _no_step = applied.between_steps().await;
            let is_relayed = applied.is_relayed(number, tenant.as_deref(), &bytes);
            let (existed, tombstone) = match chain.is_local() || is_relayed {
                true => {
                    let existed = Ok(inner.remove_local(&key));
                    inner.tell_dropped(&existed);
                    (existed, Version::NONE)
                }
                false => {
                    let mut removed = inner.remove_through(&chain, vec![key], removal).await;
                    removed.pop().unwrap_or((Ok(false), Version::NONE))
                }
            };
            let existed = existed?;
            let first_version = (issues && tombstone != Version::NONE).then_some(tombstone);
            applied.add(number, AppliedChange { tenant, key: bytes, first_version, by_relay: is_relayed });
            Ok(existed)
        };
        joined(self.inner.tasks.spawn(task)).await?
    }
}
