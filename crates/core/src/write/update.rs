//! `update` changes a value by compare-and-set, and tries again where another writer was first.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
    time::Duration,
};

use hashbrown::DefaultHashBuilder;
use terrace_tier::{Condition, Op, Reply, Version, unexpected};
use tokio::sync::{Mutex, MutexGuard};

use super::PutOutcome;
use crate::{
    BorrowedKey, Cache, Cached, Error, ErrorKind, Key, Result, Source, Value,
    chain::FULL_BUDGET,
    near::{Entry, Near, TenantKeyRef},
    read::Answer,
};

/// How often one call tries. Callers of one process take turns, so that only processes compete.
const MAX_TRIES: u32 = 16;

/// The longest pause after the first try that lost. It doubles with each further one, up to 16 times.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

const SHARDS: usize = 64;

/// The turns of callers that update one key in this process. Keys of one shard share their turns.
pub(crate) struct Turns {
    hasher: DefaultHashBuilder,
    shards: Box<[Mutex<()>]>,
}

impl Default for Turns {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hasher: DefaultHashBuilder::default(), shards }
    }
}

impl Turns {
    async fn take(&self, key: &impl Hash) -> MutexGuard<'_, ()> {
        self.shards[self.hasher.hash_one(key) as usize % SHARDS].lock().await
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Changes the value of a key: `change` gets the value, or `None` if there is none, and gives the new one. The
    /// result is the version of the new value.
    ///
    /// The value is written by compare-and-set. If another writer was first, `change` is called again with what that
    /// writer wrote, up to 16 times in all. Callers of one process take turns for a key.
    ///
    /// # Errors
    /// The errors are those of [`put_if_absent`](Cache::put_if_absent), and those of the authority's read. After
    /// [`ErrorKind::Busy`] nothing was written, because writers of other processes were first each time; the call may
    /// be repeated. After [`ErrorKind::Unknown`] the write may have happened.
    ///
    /// # Cost
    /// One round trip of a put, and where near does not hold the value one round trip to the authority. A try that
    /// lost costs both again, and a pause of up to 16 ms.
    ///
    /// ```
    /// # use terrace_core::Cache;
    /// # use terrace_tier_memory::Memory;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> terrace_core::Result<()> {
    /// # let visits: Cache<u64, u64, Memory<u64, u64>> =
    /// #     Cache::builder("visits").near(Memory::entries(10)).build()?;
    /// for _ in 0..3 {
    ///     visits.update(&7, |count| count.map_or(1, |count| count + 1)).await?;
    /// }
    /// assert_eq!(*visits.get(&7).await?.unwrap(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update<Q, F>(&self, key: &Q, change: F) -> Result<Version>
    where
        Q: BorrowedKey<K> + ?Sized,
        F: FnMut(Option<&V>) -> V + Send,
    {
        self.named("update", self.update_one(key, change).await)
    }

    async fn update_one<Q, F>(&self, key: &Q, mut change: F) -> Result<Version>
    where
        Q: BorrowedKey<K> + ?Sized,
        F: FnMut(Option<&V>) -> V + Send,
    {
        self.inner.begin_call(&self.chain, false)?;
        let owned = key.to_key();
        let _turn = self.inner.turns.take(&TenantKeyRef { tenant: self.chain.tenant, key: &owned }).await;
        for tries in 0..MAX_TRIES {
            let current = match self.near_current(&owned, tries == 0) {
                None => self.current(&owned).await?,
                near => near,
            };
            let condition = current
                .as_ref()
                .map_or(Condition::Absent, |current| Condition::Version(current.served().version));
            let value = change(current.as_deref());
            if let PutOutcome::Kept(version) = self.put_one(owned.clone(), value.into(), condition).await? {
                return Ok(version);
            }
            let longest = FIRST_PAUSE * (1 << tries.min(4));
            tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
        }
        let message =
            format!("another process wrote the key before each of {MAX_TRIES} tries; nothing was written");
        Err(Error::new(ErrorKind::Busy, message)
            .with_cure("repeat the call, or let fewer processes write the key"))
    }

    /// The near value, where near is the authority, or may be trusted: on the first try. A later try asks the
    /// authority, since the near value has lost.
    fn near_current(&self, key: &K, is_first: bool) -> Option<Cached<V>> {
        if !self.chain.is_local() {
            return if is_first { self.near_hit(key, false).ok().flatten() } else { None };
        }
        let now = self.inner.clock.now();
        let entry = self.inner.near.get(&TenantKeyRef { tenant: self.chain.tenant, key })?;
        if entry.is_fresh(now) { Cached::near(entry, now) } else { None }
    }

    /// The value that the authority has now.
    async fn current(&self, key: &K) -> Answer<V> {
        let inner = &self.inner;
        if inner.behind.is_some() {
            // The front of write-behind is the authority, and every read asks it first.
            return self.read_one(key.clone(), None, None).await;
        }
        let Some(authority) = self.chain.authority() else { return Ok(None) };
        let tier_key = inner.tier_key(&self.chain, &self.tenant_key(key.clone()))?;
        match authority.call(FULL_BUDGET, &tier_key, Op::Get).await? {
            Reply::Hit(stored) => {
                let Some(body) = &stored.body else { return Ok(None) };
                let value = inner
                    .decode(authority, &tier_key, body)
                    .map_err(|reason| Error::from(reason).at_tier(authority.shared.name).during("get"))?;
                let entry = Arc::new(Entry::new(Some(value), stored.version, stored.deadlines));
                let source = Source::Store(authority.shared.name);
                Ok(Cached::far(entry, inner.clock.now(), source, false))
            }
            Reply::Miss(_) => Ok(None),
            reply => Err(unexpected(&reply)),
        }
    }
}
