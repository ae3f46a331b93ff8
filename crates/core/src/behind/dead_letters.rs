//! Dead letters: writes that the store refuses for good.

use std::sync::Arc;

use terrace_tier::{KeyName, Version};
use tokio::time::Instant;

use super::Behind;
use crate::{
    BorrowedKey, Cache, Error, Key, Result, Value,
    near::{Near, TenantId},
};

/// A write that the store refuses for good. Unless another front has been opened since, reads still find it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The key, as servers know it.
    pub name: KeyName,
    /// The version of the write.
    pub version: Version,
    /// Whether the write is a removal.
    pub is_removal: bool,
    /// Why the store refuses it.
    pub cause: Error,
}

impl Behind {
    /// Makes an ordinary write of a dead letter. The result says whether the key had one.
    pub(super) fn revive(&self, digest: &[u8; 16]) -> bool {
        let mut index = self.index.lock();
        let is_dead = index.revive(digest, Instant::now());
        if let (Some(journal), Some(dirty)) = (&self.journal, index.get(digest).filter(|_| is_dead)) {
            journal.retried(&dirty.write);
        }
        drop(index);
        self.wake.notify_one();
        is_dead
    }
}

/// The dead letters of a cache with write-behind. [`Cache::dead_letters`] gives them.
///
/// They count in the cap of the backlog. A new put or removal of a key replaces its dead letter.
pub struct DeadLetters<'a, K, V, N> {
    pub(super) cache: &'a Cache<K, V, N>,
    pub(super) behind: Option<Arc<Behind>>,
}

impl<K: Key, V: Value, N: Near<K, V>> DeadLetters<'_, K, V, N> {
    /// The dead letters of this process, and in a tenant's cache those of the tenant, in no order.
    ///
    /// # Cost
    /// It looks at each dirty key, under the lock that puts take.
    pub fn list(&self) -> Vec<DeadLetter> {
        let Some(behind) = &self.behind else { return Vec::new() };
        let tenant = self.cache.chain.tenant;
        let index = behind.index.lock();
        let dead = index.all().filter_map(|dirty| Some((&dirty.write, dirty.progress.cause()?)));
        dead.filter(|(write, _)| tenant == TenantId::NONE || write.chain.tenant == tenant)
            .map(|(write, cause)| DeadLetter {
                name: KeyName {
                    namespace: self.cache.namespace().to_owned(),
                    tenant: write.chain.tenant_name.clone(),
                    key: write.key.bytes.clone(),
                },
                version: write.version,
                is_removal: write.body.is_none(),
                cause: cause.clone(),
            })
            .collect()
    }

    /// Makes an ordinary write of a key's dead letter, which the store gets with its old version. The result says
    /// whether the key had one.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) for a key that no server can take.
    pub fn retry<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        let Some(behind) = &self.behind else { return Ok(false) };
        let digest = self.digest(key)?;
        Ok(behind.revive(&digest))
    }

    /// Drops a key's dead letter. The result says whether the key had one.
    ///
    /// # Errors
    /// As [`retry`](Self::retry).
    pub fn discard<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        let Some(behind) = &self.behind else { return Ok(false) };
        let digest = self.digest(key)?;
        let dropped = {
            let index = behind.index.lock();
            let dead = index.get(&digest).filter(|dirty| dirty.progress.cause().is_some());
            dead.map(|dirty| dirty.write.clone())
        };
        if let Some(write) = &dropped {
            behind.settle(std::slice::from_ref(write));
            behind.changed.notify_waiters();
            behind.drop_near(write);
        }
        Ok(dropped.is_some())
    }

    fn digest<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<[u8; 16]> {
        let cache = self.cache;
        let key = cache.inner.tier_key(&cache.chain, &cache.tenant_key(key.to_key()))?;
        Ok(key.digest)
    }
}
