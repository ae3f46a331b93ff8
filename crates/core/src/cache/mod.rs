//! The cache: what applications call.

mod batch;
mod builder;
mod drop;
mod ending;
mod expire;
mod fill;
mod inner;
mod load;
mod lookup;
mod manage;
mod plan;
mod read;
mod tasks;
mod tenants;
mod write;

pub use batch::{Many, Missing};
pub use builder::Builder;
pub use plan::{Placed, TierSettings};
pub use read::Loading;
pub use tenants::Tenants;

use std::{fmt, future::Future, hash::Hash, sync::Arc};

use futures_util::FutureExt;

use crate::{
    BoxError, Cached, Condition, Error, ErrorKind, Event, Item, Near, Result, Source, Version,
    chain::Chain,
    key::Lookup as LookupKey,
    near::{Probe, TenantId},
};
use inner::{Inner, NEAR};
use write::Written;

/// A cache of values `V` by keys `K`: a near tier `N`, and remote tiers behind it.
///
/// A handle: cheap to clone, and every clone is the same cache. Built by [`Cache::builder`].
///
/// # Cost
/// A near hit compares one deadline and counts one reference: no boxing, no allocation beyond the
/// engine's own. A miss boards the key's flight, which makes at most one trip to each tier.
pub struct Cache<K, V, N> {
    inner: Arc<Inner<K, V, N>>,
    chain: Arc<Chain>,
    /// The chain's, at hand for hits.
    tenant: TenantId,
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// The value of a key, or `None`. Runs the loader that is bound to the cache, if one is.
    ///
    /// # Errors
    /// The store's, or the bound loader's; a failing cache tier is a miss.
    pub async fn get<Q: LookupKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<Cached<V>>> {
        match self.near_hit(key, false) {
            Some(hit) => Ok(hit),
            None => self.read_cold(key.to_key()).await,
        }
    }

    /// The value of a key; on a miss `load` makes it, once for all concurrent callers of all
    /// methods in this process.
    ///
    /// `load` may borrow, and runs in the caller on a miss only; its future owns what it needs and
    /// is spawned, so that no caller's cancellation stops it. With a store, what it gives becomes
    /// the record, unless another process created one first: then all get that one.
    ///
    /// # Errors
    /// [`ErrorKind::Load`] with the loader's error, [`ErrorKind::Panicked`] once a second caller's
    /// loader panicked too, [`ErrorKind::Timeout`] after the load's deadline,
    /// [`ErrorKind::Reentrant`] from within a loader of the same key, and the store's errors.
    pub async fn get_or_load<Q, L, F, E>(&self, key: &Q, load: L) -> Result<Cached<V>>
    where
        Q: LookupKey<K> + ?Sized,
        L: FnOnce() -> F + Send,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        if let Some(Some(hit)) = self.near_hit(key, true) {
            return Ok(hit);
        }
        let start =
            Box::new(move |_| load().map(|result| result.map(Item::new).map_err(Error::load)).boxed());
        match self.load_cold(key.to_key(), start).await? {
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
    pub async fn get_or_load_with<Q, L, F, T, E>(&self, key: &Q, load: L) -> Result<Option<Cached<V>>>
    where
        Q: LookupKey<K> + ?Sized,
        L: FnOnce(Loading<V>) -> F + Send,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        if let Some(hit) = self.near_hit(key, true) {
            return Ok(hit);
        }
        let start = Box::new(move |loading: Loading<V>| {
            load(loading).map(|result| result.map(Into::into).map_err(Error::load)).boxed()
        });
        self.load_cold(key.to_key(), start).await
    }

    /// The values of many keys: one trip a tier for all that near has not.
    pub async fn get_many(&self, keys: &[K]) -> Many<V> {
        self.read_many(keys).await
    }

    /// The values of many keys; `load` makes those that no tier has, in one grouped load. It gives
    /// pairs; a key that it leaves out is absent.
    pub async fn get_or_load_many<L, F, I, T, E>(&self, keys: &[K], load: L) -> Many<V>
    where
        L: FnOnce(Missing<K>) -> F + Send,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        let start = Box::new(move |missing: Missing<K>| {
            let load = load(missing);
            let pairs = |result: Result<I, E>| match result {
                Ok(pairs) => Ok(pairs.into_iter().map(|(key, value)| (key, value.into())).collect()),
                Err(error) => Err(Error::load(error)),
            };
            load.map(pairs).boxed()
        });
        self.load_many(keys, start).await
    }

    /// Reads the truth anew, whatever the caches have, and replaces their copies: the store's
    /// record, else what `load` gives. A failure leaves the copies as they are.
    ///
    /// # Errors
    /// As [`get_or_load`](Cache::get_or_load).
    pub async fn refresh<Q, L, F, T, E>(&self, key: &Q, load: L) -> Result<Option<Cached<V>>>
    where
        Q: LookupKey<K> + ?Sized,
        L: FnOnce(Loading<V>) -> F + Send,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        let start = Box::new(move |loading: Loading<V>| {
            load(loading).map(|result| result.map(Into::into).map_err(Error::load)).boxed()
        });
        self.load_anew(key.to_key(), start).await
    }

    /// Writes a value: to the store and then its copies, or to the caches where there is no store.
    /// Returns its version. Once it returns, this process reads this value or a newer one.
    ///
    /// # Errors
    /// The authority's; of those, [`ErrorKind::Unknown`] means that it may have happened.
    pub async fn put<Q: LookupKey<K> + ?Sized>(&self, key: &Q, item: impl Into<Item<V>>) -> Result<Version> {
        match self.put_one(key.to_key(), item.into(), Condition::Always).await? {
            Written::Kept(version) => Ok(version),
            Written::Refused => Err(Error::new(ErrorKind::Backend, "an unconditional put was refused")),
        }
    }

    /// Writes a value where there is none; whether it did.
    ///
    /// # Errors
    /// As [`put`](Cache::put); [`ErrorKind::Unsupported`] at level `Ttl`, which has no order.
    pub async fn put_if_absent<Q: LookupKey<K> + ?Sized>(
        &self,
        key: &Q,
        item: impl Into<Item<V>>,
    ) -> Result<bool> {
        self.put_conditional(key.to_key(), item.into(), Condition::Absent).await
    }

    /// Writes a value over the version that the caller saw; whether it did.
    ///
    /// # Errors
    /// As [`put_if_absent`](Cache::put_if_absent).
    pub async fn replace<Q: LookupKey<K> + ?Sized>(
        &self,
        key: &Q,
        seen: Version,
        item: impl Into<Item<V>>,
    ) -> Result<bool> {
        self.put_conditional(key.to_key(), item.into(), Condition::Version(seen)).await
    }

    /// Writes many values: one trip a tier. One result a key, in order.
    pub async fn put_many<T: Into<Item<V>>>(
        &self,
        items: impl IntoIterator<Item = (K, T)>,
    ) -> Vec<Result<Version>> {
        let items = items.into_iter().map(|(key, item)| (key, item.into())).collect();
        let results = self.put_all(items, Condition::Always).await.into_iter();
        let version = |written| match written {
            Written::Kept(version) => version,
            Written::Refused => Version::NONE,
        };
        results.map(|result| result.map(version)).collect()
    }

    /// Drops the copies of a key in every cache tier; a store keeps its record. Whether a copy was
    /// there. A load of the key that is under way is kept nowhere.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`] where a tier did not confirm: this process reads past it for the key
    /// until it has.
    pub async fn invalidate<Q: LookupKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        only(self.drop_keys(vec![key.to_key()], false).await)
    }

    /// Drops the copies of many keys; one result a key.
    pub async fn invalidate_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.drop_keys(keys.to_vec(), false).await
    }

    /// Deletes a key everywhere, in the store too. Whether a value was there.
    ///
    /// # Errors
    /// As [`invalidate`](Cache::invalidate).
    pub async fn remove<Q: LookupKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        only(self.drop_keys(vec![key.to_key()], true).await)
    }

    /// Deletes many keys everywhere; one result a key.
    pub async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.drop_keys(keys.to_vec(), true).await
    }

    /// Whether a key has a value; a read that gives none away.
    ///
    /// # Errors
    /// As [`get`](Cache::get).
    pub async fn contains<Q: LookupKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    /// The near tier's answer: `None` if it has nothing fresh; a negative entry is `Some(None)`.
    /// One compare and one reference count.
    #[inline]
    fn near_hit<Q: LookupKey<K> + ?Sized>(&self, key: &Q, loads: bool) -> Option<Option<Cached<V>>> {
        let inner = &*self.inner;
        let entry = inner.near.get(&Probe { tenant: self.tenant, key })?;
        let now = inner.clock.now();
        if !entry.is_fresh(now) {
            return None;
        }
        if entry.value().is_none() && loads && self.chain.store.is_some() {
            return None;
        }
        inner.near_counters.hits.add(1);
        if inner.observed {
            inner.monitor.observe(&Event::Hit { tier: NEAR });
        }
        Some(Cached::new(entry, now, Source::Near, false))
    }

    async fn put_conditional(&self, key: K, item: Item<V>, condition: Condition) -> Result<bool> {
        if self.inner.level == crate::Level::Ttl && !self.chain.is_local() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "level Ttl has no order of writes; a conditional put needs Level::Fenced",
            ));
        }
        Ok(matches!(self.put_one(key, item, condition).await?, Written::Kept(_)))
    }
}

fn only(results: Vec<Result<bool>>) -> Result<bool> {
    results.into_iter().next().unwrap_or(Ok(false))
}

impl<K, V, N> Cache<K, V, N> {
    fn new(inner: Arc<Inner<K, V, N>>, chain: Arc<Chain>) -> Self {
        let tenant = chain.tenant;
        Self { inner, chain, tenant }
    }
}

impl<K, V, N> Clone for Cache<K, V, N> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.inner), Arc::clone(&self.chain))
    }
}

impl<K, V, N> fmt::Debug for Cache<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers: Vec<&str> = self.chain.tiers.iter().map(|place| &*place.line.name).collect();
        f.debug_struct("Cache")
            .field("namespace", &self.inner.monitor.namespace)
            .field("tiers", &tiers)
            .field("store", &self.chain.store.as_ref().map(|store| &*store.line.name))
            .finish_non_exhaustive()
    }
}
