//! The cache: what applications call.

mod builder;
mod chain_spec;
mod distinct;
mod handle;
mod inner;
mod loader;
mod many;
mod operate;
mod tasks;
mod tenants;

pub use builder::Builder;
pub use chain_spec::{TierConfig, TierSettings};
pub(crate) use distinct::{Distinct, Occurrence};
pub(crate) use inner::{Inner, NEAR, UNUSED_KEY};
pub use loader::LoadContext;
pub(crate) use loader::{Load, LoadRequest, LoaderStart};
pub use many::{Many, MissingKeys};
pub use tenants::Tenants;

use std::{future::Future, sync::Arc};

use terrace_tier::Condition;

use crate::{
    BorrowedKey, BoxError, Cached, Error, ErrorKind, Event, Item, Key, Result, Value, Version,
    chain::Chain,
    freshness::{MaxStaleness, ReadMode},
    near::{Near, TenantId, TenantKeyRef},
    read::NearMiss,
    write::{PutOutcome, Removal},
};
use loader::{load_group, load_one};

/// A cache of values `V` by keys `K`: a near tier `N`, and remote tiers behind it.
///
/// A handle: cheap to clone, and every clone is the same cache. Built by [`Cache::builder`].
///
/// # Cost
/// A near hit compares one deadline and counts one reference: no boxing, no allocation beyond the
/// engine's own. A miss boards the key's flight, which asks each tier once until one answers (Redis
/// takes a second trip to give a lease); a plain `get` without a near tier asks by itself.
///
/// ```
/// use terrace_core::Cache;
/// use terrace_tier_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_core::Result<()> {
/// let squares: Cache<u64, u64, Memory<u64, u64>> =
///     Cache::builder("squares").near(Memory::entries(1_000)).build()?;
///
/// let square = squares.get_or_load(&7, || async { Ok::<_, std::io::Error>(49) }).await?;
/// assert_eq!(*square, 49);
/// let seen = square.served().version;
/// assert!(squares.replace(&7, seen, 50).await?);
/// assert!(!squares.replace(&7, seen, 51).await?, "another version is there now");
/// assert!(squares.invalidate(&7).await?);
/// assert!(squares.get(&7).await?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct Cache<K, V, N> {
    pub(crate) inner: Arc<Inner<K, V, N>>,
    pub(crate) chain: Arc<Chain>,
    /// The chain's tenant, copied here for near hits.
    tenant: TenantId,
    pub(crate) mode: ReadMode,
    /// How long near copies are valid for a hit: [`MaxStaleness::ZERO`] at another level than the cache's
    /// own, whose hits [`ReadMode::accepts_near`] decides.
    max_staleness: MaxStaleness,
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// The value of a key, or `None`. Runs the loader that is bound to the cache, if one is.
    ///
    /// # Errors
    /// The store's, or the bound loader's; a failing cache tier is a miss. [`ErrorKind::Key`] for a
    /// key that no remote tier can take.
    pub async fn get<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<Cached<V>>> {
        match self.near_hit(key, false) {
            Ok(hit) => Ok(hit),
            Err(near) => self.read_one(key.to_key(), near, None).await,
        }
    }

    /// The value of a key; on a miss `load` makes it, once for all concurrent callers of all methods in
    /// this process.
    ///
    /// `load` may borrow, and runs in the caller on a miss only; its future owns what it needs and
    /// is spawned, so that no caller's cancellation stops it. With a store, what it gives becomes
    /// the record, unless another process created one first: then all get that one.
    ///
    /// # Errors
    /// [`ErrorKind::Load`] with the loader's error, [`ErrorKind::Panicked`] once a second caller's
    /// loader panicked too, [`ErrorKind::Timeout`] after the load's deadline,
    /// [`ErrorKind::Reentrant`] from within a loader of the same key, and the store's errors. All
    /// callers of one load get the same error.
    ///
    /// # Cost
    /// On a near hit as [`get`](Cache::get): `load` is not called. On a miss the load is one spawned
    /// task; fills of nearer tiers are off the caller's path.
    pub async fn get_or_load<Q, L, F, E>(&self, key: &Q, load: L) -> Result<Cached<V>>
    where
        Q: BorrowedKey<K> + ?Sized,
        L: FnOnce() -> F + Send,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let near = match self.near_hit(key, true) {
            Ok(Some(hit)) => return Ok(hit),
            Ok(None) => None,
            Err(near) => near,
        };
        match self.read_one(key.to_key(), near, Some(load_one(move |_| load()))).await? {
            Some(value) => Ok(value),
            None => Err(Error::new(
                ErrorKind::Load,
                "a loader of this cache said that the key has no value; use get_or_load_with for such keys",
            )),
        }
    }

    /// The value of a key, or its absence: like [`get_or_load`](Cache::get_or_load), for loaders
    /// that give an `Option`, an [`Item`] with a life of its own, or that want the stale value.
    ///
    /// # Errors
    /// As [`get_or_load`](Cache::get_or_load).
    ///
    /// ```
    /// # use terrace_core::{Cache, Item, LoadContext, NoNear};
    /// # async fn example(counts: &Cache<u8, u64, NoNear>) -> terrace_core::Result<()> {
    /// let load = |loading: LoadContext<u64>| async move {
    ///     let count = loading.stale.map_or(0, |old| *old + 1);
    ///     Ok::<_, std::io::Error>(Item::new(count).ttl(std::time::Duration::from_secs(5)))
    /// };
    /// let count = counts.get_or_load_with(&1, load).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_load_with<Q, L, F, T, E>(&self, key: &Q, load: L) -> Result<Option<Cached<V>>>
    where
        Q: BorrowedKey<K> + ?Sized,
        L: FnOnce(LoadContext<V>) -> F + Send,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        match self.near_hit(key, true) {
            Ok(hit) => Ok(hit),
            Err(near) => self.read_one(key.to_key(), near, Some(load_one(load))).await,
        }
    }

    /// The values of many keys, one answer a key, in order. A key may stand more than once. Runs the
    /// loader that is bound to the cache, if one is, for 32 keys at a time.
    ///
    /// # Errors
    /// Each key has its own, as [`get`](Cache::get) has it; the others keep their answers.
    ///
    /// # Cost
    /// One trip a tier for all keys that near has not (in Redis a second one for the leases).
    pub async fn get_many(&self, keys: &[K]) -> Many<V> {
        self.read_many(keys, None).await
    }

    /// The values of many keys; `load` makes those that no tier has, in one grouped load. It gives
    /// pairs; a key that it leaves out is absent.
    ///
    /// Keys that another caller is loading already are not asked for again: their load is waited for.
    /// Keys that are served stale, and are to be renewed, are in the same load; where nothing else is
    /// missing, it runs off the caller's path.
    ///
    /// # Errors
    /// Each key has its own, as [`get_or_load`](Cache::get_or_load) has it; a loader that fails does
    /// so for all keys that it was asked for.
    ///
    /// ```
    /// use terrace_core::{Cache, MissingKeys};
    /// # use terrace_tier_memory::Memory;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> terrace_core::Result<()> {
    /// # let squares: Cache<u64, u64, Memory<u64, u64>> =
    /// #     Cache::builder("squares").near(Memory::entries(10)).build()?;
    /// squares.put(&2, 4).await?;
    /// let load = |missing: MissingKeys<u64>| async move {
    ///     let values: Vec<u64> = missing.keys().iter().map(|key| key * key).collect();
    ///     Ok::<_, std::io::Error>(missing.zip(values))
    /// };
    /// let values = squares.get_or_load_many(&[1, 2, 3], load).await.into_values()?;
    /// let values: Vec<u64> = values.into_iter().flatten().map(|value| *value).collect();
    /// assert_eq!(values, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_load_many<L, F, I, T, E>(&self, keys: &[K], load: L) -> Many<V>
    where
        L: FnOnce(MissingKeys<K>) -> F + Send,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        self.read_many(keys, Some(load_group(load))).await
    }

    /// Reads the truth anew, whatever the caches have, and replaces their copies: the store's
    /// record, else what `load` gives. A failure leaves the copies as they are.
    ///
    /// # Errors
    /// As [`get_or_load`](Cache::get_or_load).
    pub async fn refresh<Q, L, F, T, E>(&self, key: &Q, load: L) -> Result<Option<Cached<V>>>
    where
        Q: BorrowedKey<K> + ?Sized,
        L: FnOnce(LoadContext<V>) -> F + Send,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        self.read_anew(key.to_key(), load_one(load)).await
    }

    /// Writes a value: to the store and then its copies, or to the caches where there is no store.
    /// Returns its version. Once it returns, this process reads this value or a newer one.
    ///
    /// # Errors
    /// The authority's (the store's, else the farthest tier's); of those, [`ErrorKind::Unknown`] means
    /// that it may have happened. A nearer tier that fails is no error: this process reads past it.
    ///
    /// # Cost
    /// One trip to each tier, far to near, in a spawned task that no cancellation of the caller stops.
    pub async fn put<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        item: impl Into<Item<V>>,
    ) -> Result<Version> {
        self.put_one(key.to_key(), item.into(), Condition::Always).await?.version()
    }

    /// Writes a value where there is none; whether it did.
    ///
    /// # Errors
    /// As [`put`](Cache::put); [`ErrorKind::Unsupported`] at level `Ttl`, which has no order.
    pub async fn put_if_absent<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        item: impl Into<Item<V>>,
    ) -> Result<bool> {
        let outcome = self.put_one(key.to_key(), item.into(), Condition::Absent).await?;
        Ok(matches!(outcome, PutOutcome::Kept(_)))
    }

    /// Writes a value over the version that the caller saw ([`Served::version`](crate::Served)); whether
    /// it did.
    ///
    /// # Errors
    /// As [`put_if_absent`](Cache::put_if_absent).
    pub async fn replace<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        seen: Version,
        item: impl Into<Item<V>>,
    ) -> Result<bool> {
        let outcome = self.put_one(key.to_key(), item.into(), Condition::Version(seen)).await?;
        Ok(matches!(outcome, PutOutcome::Kept(_)))
    }

    /// Writes many values; one result an item, in order. Of a key that is given twice the last value is
    /// written.
    ///
    /// # Errors
    /// Each item has its own, as [`put`](Cache::put) has it.
    ///
    /// # Cost
    /// One trip a tier, and one more to a tier that takes some of the values and not others.
    pub async fn put_many<T: Into<Item<V>>>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
    ) -> Vec<Result<Version>> {
        let items = items.into_iter().map(|(key, item)| (key, item.into())).collect();
        let outcomes = self.put_all(items, Condition::Always).await;
        outcomes.into_iter().map(|outcome| outcome.and_then(PutOutcome::version)).collect()
    }

    /// Drops the copies of a key in every cache tier; a store keeps its record. Whether a copy was
    /// there. A load of the key that is under way is kept nowhere.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`] where a tier did not confirm: this process reads past it for the key
    /// until it has. The other tiers were changed all the same.
    ///
    /// # Cost
    /// One trip to each cache tier, far to near, in a spawned task.
    pub async fn invalidate<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.remove_one(key.to_key(), Removal::Copies).await
    }

    /// Drops the copies of many keys; one result a key, in order.
    ///
    /// # Errors
    /// Each key has its own, as [`invalidate`](Cache::invalidate) has it.
    ///
    /// # Cost
    /// One trip a tier.
    pub async fn invalidate_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.remove_all(keys.to_vec(), Removal::Copies).await
    }

    /// Deletes a key everywhere, in the store too. Whether a value was there.
    ///
    /// # Errors
    /// As [`invalidate`](Cache::invalidate), and the store's: then its record is still there, or with
    /// [`ErrorKind::Unknown`] may be. The copies were dropped all the same.
    pub async fn remove<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.remove_one(key.to_key(), Removal::Everywhere).await
    }

    /// Deletes many keys everywhere; one result a key, in order.
    ///
    /// # Errors
    /// Each key has its own, as [`remove`](Cache::remove) has it.
    ///
    /// # Cost
    /// One trip a tier.
    pub async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.remove_all(keys.to_vec(), Removal::Everywhere).await
    }

    /// Whether a key has a value. A read like [`get`](Cache::get), at the same cost: it runs a bound
    /// loader and counts as a use.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub async fn contains<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    /// The near tier's answer, `Ok(None)` for a negative entry, or what near holds that is no answer. One
    /// comparison and one reference count, at the level that the cache was built at.
    ///
    /// The engine is asked once: a miss counts as a use of the key in its eviction, and two uses for one
    /// read cost more than a point of the hit ratio (measured).
    #[inline]
    pub(crate) fn near_hit<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        loads: bool,
    ) -> Result<Option<Cached<V>>, NearMiss<V>> {
        let inner = &*self.inner;
        let entry = inner.near.get(&TenantKeyRef { tenant: self.tenant, key }).ok_or(None)?;
        let now = inner.clock.now();
        let valid = entry.is_valid(now) && inner.coherence.covers(&entry, now, self.max_staleness);
        if !(valid || self.mode.accepts_near(&entry, now, &inner.coherence))
            || (entry.value().is_none() && loads && self.chain.store.is_some())
        {
            return Err(Some(entry));
        }
        inner.near_counters.hits.add(1);
        if inner.observed {
            inner.monitor.observe(&Event::Hit { tier: NEAR });
        }
        Ok(Cached::near(entry, now))
    }
}
