//! `touch` renews the life of a value that is in use, at most once in a tenth of that life.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use parking_lot::Mutex;
use terrace_tier::{Deadlines, Timestamp};

use crate::{
    BorrowedKey, Cache, Key, Result, Value,
    cache::TOUCHES_PER_LIFE,
    near::{Near, TenantKey, TenantKeyRef},
};

/// The most keys whose renewals are remembered. Beyond them all are forgotten, which costs round trips only.
const MAX_KEYS: usize = 10_000;

/// When the lives that this process has renewed are due to be renewed again.
pub(crate) struct Renewals<K>(Mutex<HashMap<TenantKey<K>, Timestamp>>);

impl<K> Default for Renewals<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Key> Renewals<K> {
    fn is_due<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>, now: Timestamp) -> bool {
        self.0.lock().get(key).is_none_or(|due| *due <= now)
    }

    /// Notes that a renewal begins. The result is `false` if another call began one meanwhile.
    fn begin(&self, key: TenantKey<K>, now: Timestamp, due: Timestamp) -> bool {
        let mut keys = self.0.lock();
        if keys.len() >= MAX_KEYS {
            keys.retain(|_, due| *due > now);
            // A map that stays full is emptied, so that the cost of a search for room is paid once in many calls.
            if keys.len() > MAX_KEYS / 2 {
                keys.clear();
            }
        }
        keys.insert(key, due).is_none_or(|due| due <= now)
    }

    pub(crate) fn forget<Q: BorrowedKey<K> + ?Sized>(&self, key: &TenantKeyRef<'_, Q>) {
        self.0.lock().remove(key);
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    pub(crate) async fn touch_one<Q>(&self, key: &Q, life: Duration) -> Result<()>
    where
        Q: BorrowedKey<K> + ?Sized,
    {
        self.inner.check_open()?;
        let (renewals, now) = (&self.inner.renewals, self.inner.clock.now());
        let borrowed = TenantKeyRef { tenant: self.chain.tenant, key };
        if !renewals.is_due(&borrowed, now) {
            return Ok(());
        }
        let owned = TenantKey { tenant: self.chain.tenant, key: key.to_key() };
        if !renewals.begin(owned, now, now.after(life / TOUCHES_PER_LIFE)) {
            return Ok(());
        }
        let guard = RenewalGuard { renewals, key: borrowed, renewed: false };
        self.expire_one(key.to_key(), life).await?;
        guard.succeed();
        Ok(())
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Extends the idle life of keys that were read, in the background, unless this process has done so within a
    /// tenth of that life.
    pub(crate) fn touch_later(&self, keys: Vec<Arc<TenantKey<K>>>, idle: Duration) {
        let (inner, now) = (&self.inner, self.inner.clock.now());
        // A tick less than a tenth, so that the near copy that the last renewal made is not due before this is.
        let pause = (idle / TOUCHES_PER_LIFE).saturating_sub(2 * inner.clock.granularity());
        for key in keys {
            if !inner.renewals.begin((*key).clone(), now, now.after(pause)) {
                continue;
            }
            if self.chain.is_local() {
                inner.expire_local(&key, Deadlines::ttl(now, idle));
                continue;
            }
            let (task, chain) = (Arc::clone(inner), Arc::clone(&self.chain));
            let touch = async move {
                if task.extend_idle(&chain, &key, idle).await.is_err() {
                    task.renewals.forget(&TenantKeyRef { tenant: key.tenant, key: &key.key });
                }
            };
            if inner.tasks.start(touch).is_err() {
                return;
            }
        }
    }
}

/// Forgets a renewal that failed or whose call was cancelled, so that the next call renews the life.
struct RenewalGuard<'a, K: Key, Q: BorrowedKey<K> + ?Sized> {
    renewals: &'a Renewals<K>,
    key: TenantKeyRef<'a, Q>,
    renewed: bool,
}

impl<K: Key, Q: BorrowedKey<K> + ?Sized> RenewalGuard<'_, K, Q> {
    fn succeed(mut self) {
        self.renewed = true;
    }
}

impl<K: Key, Q: BorrowedKey<K> + ?Sized> Drop for RenewalGuard<'_, K, Q> {
    fn drop(&mut self) {
        if !self.renewed {
            self.renewals.forget(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::TenantId;

    #[test]
    fn no_more_than_ten_thousand_renewals_are_remembered() {
        let renewals = Renewals::default();
        for number in 0..3 * MAX_KEYS as u64 {
            let key = TenantKey { tenant: TenantId::NONE, key: number };
            assert!(renewals.begin(key, Timestamp::from_millis(1), Timestamp::NEVER));
            assert!(renewals.0.lock().len() <= MAX_KEYS);
        }
        let now = Timestamp::from_millis(1);
        assert!(
            !renewals.is_due(&TenantKeyRef { tenant: TenantId::NONE, key: &(3 * MAX_KEYS as u64 - 1) }, now)
        );
    }
}
