//! Applications call the methods of `Cache`, which this folder defines.

mod builder;
mod chain_spec;
mod changes;
mod classes;
mod distinct;
mod handle;
mod inner;
mod items;
mod loader;
mod many;
mod named;
mod near_expiry;
mod observe;
mod operate;
mod tasks;
mod tenants;
mod unstopped;

pub use builder::Builder;
pub use chain_spec::{TierConfig, TierSettings};
pub(crate) use classes::Class;
pub(crate) use distinct::{Distinct, Occurrence};
pub(crate) use inner::{Inner, NEAR, Policies, UNUSED_KEY};
pub use loader::LoadContext;
pub(crate) use loader::{Load, LoadRequest, LoaderStart};
pub use many::{Many, MissingKeys};
pub use observe::StatsSource;
pub use tenants::Tenants;

use std::{future::Future, sync::Arc};

use terrace_tier::Condition;

use crate::{
    BorrowedKey, BoxError, Cached, Item, Key, Result, Value, Version,
    chain::Chain,
    freshness::{MaxStaleness, ReadMode},
    near::{Near, TenantId, TenantKeyRef},
    read::NearMiss,
    recorder::RecordedOp,
    write::{PutOutcome, Removal},
};
use loader::{load_group, load_one, no_value_error};

/// A cache of values `V` by keys `K`: a near tier `N`, and remote tiers behind it.
///
/// A `Cache` is a handle: it is cheap to clone, and every clone uses the same cache. [`Cache::builder`]
/// begins a new cache.
///
/// # Cost
/// A near hit compares one deadline and counts one reference. A near hit boxes nothing, and allocates
/// nothing beyond the engine's own allocations. A miss joins the flight of its key, which asks one tier
/// after another until one answers (Redis needs a second round trip to give a lease). A plain `get` of a
/// cache without a near tier asks the tiers without a flight.
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
    /// The chain's tenant, which is copied into the handle for near hits.
    tenant: TenantId,
    pub(crate) mode: ReadMode,
    /// How long near copies are valid for a hit. The duration is [`MaxStaleness::ZERO`] in a handle of
    /// another level than the cache's own: there [`ReadMode::accepts_near`] decides about near hits.
    max_staleness: MaxStaleness,
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Reads the value of a key, or `None` if there is no value. On a miss the read runs the loader that
    /// is bound to the cache, if there is one.
    ///
    /// # Errors
    /// The read fails with the store's error or the bound loader's error, and with
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) for a key that no remote tier can take. A cache tier
    /// that fails counts as a miss.
    pub async fn get<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<Cached<V>>> {
        match self.near_hit(key, false) {
            Ok(hit) => Ok(hit),
            Err(near) if self.asks_nobody() => self.named("get", self.read_near_alone(key, near)),
            Err(near) => self.named("get", self.read_one(key.to_key(), near, None).await),
        }
    }

    /// Reads the value of a key. On a miss `load` makes the value, once for all concurrent callers of
    /// all methods in this process.
    ///
    /// `load` may borrow, and is called in the caller's task on a miss only. The future that `load`
    /// returns owns what it needs. The caller polls it once; what is not ready then goes on in a spawned
    /// task, which no caller's cancellation stops. So a future that borrows from `self` does not compile
    /// ('lifetime may not live long enough'): keep what it uses in an `Arc`, and clone that. In a cache with a store, the loaded value becomes the record,
    /// unless another process has created a record first: then all callers get that record.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use terrace_core::{Cache, NoNear, Result};
    /// # struct Database;
    /// # impl Database { async fn find(&self, id: u64) -> std::io::Result<String> { Ok(String::new()) } }
    /// # struct Users { cache: Cache<u64, String, NoNear>, database: Arc<Database> }
    /// impl Users {
    ///     async fn find(&self, id: u64) -> Result<String> {
    ///         let database = Arc::clone(&self.database);
    ///         let user = self.cache.get_or_load(&id, || async move { database.find(id).await }).await?;
    ///         Ok(user.to_string())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The error of the loader is [`ErrorKind::Load`](crate::ErrorKind::Load). The load fails with
    /// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) after a second caller's loader has panicked
    /// too, with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) after the load's deadline, with
    /// [`ErrorKind::Reentrant`](crate::ErrorKind::Reentrant) from within a loader of the same key, with
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) where the cache already runs as many loads as it may
    /// ([`Builder::max_loads`]), and with the store's errors. All callers of one load get the same error.
    ///
    /// # Cost
    /// A near hit costs the same as in [`get`](Cache::get), and does not call `load`. On a miss a load that
    /// is not ready at its first poll is one spawned task, and the fills of nearer tiers run in the background.
    pub async fn get_or_load<Q, L, F, E>(&self, key: &Q, load: L) -> Result<Cached<V>>
    where
        Q: BorrowedKey<K> + ?Sized,
        L: FnOnce() -> F + Send,
        F: Future<Output = Result<V, E>>, // for a loader of an Option or an Item: get_or_load_with
        F: Send + 'static,                // a load outlives its caller: clone what it uses into it, as an Arc
        E: Into<BoxError>,
    {
        let near = match self.near_hit(key, true) {
            Ok(Some(hit)) => return Ok(hit),
            Ok(None) => None,
            Err(near) => near,
        };
        let answer = self.read_one(key.to_key(), near, Some(load_one(move |_| load()))).await;
        self.named("get_or_load", answer.and_then(|value| value.ok_or_else(no_value_error)))
    }

    /// Reads the value of a key, or its absence. The method is like [`get_or_load`](Cache::get_or_load),
    /// but for loaders that give an `Option` or an [`Item`] with a life of its own, or that use the
    /// stale value.
    ///
    /// # Errors
    /// The errors are those of [`get_or_load`](Cache::get_or_load).
    ///
    /// # Cost
    /// The costs are those of [`get_or_load`](Cache::get_or_load).
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
        F: Future<Output = Result<T, E>>,
        F: Send + 'static, // a load outlives its caller: clone what it uses into it, as an Arc
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        match self.near_hit(key, true) {
            Ok(hit) => Ok(hit),
            Err(near) => {
                let answer = self.read_one(key.to_key(), near, Some(load_one(load))).await;
                self.named("get_or_load_with", answer)
            }
        }
    }

    /// Reads the values of many keys, and gives one answer for each key, in order. A key may occur more
    /// than once. The loader that is bound to the cache, if there is one, loads 32 missing keys at a
    /// time.
    ///
    /// # Errors
    /// Each key has its own error, as in [`get`](Cache::get). The other keys keep their answers.
    ///
    /// # Cost
    /// All keys that the near tier cannot answer share one round trip to each tier, and a second one to
    /// Redis for the leases.
    pub async fn get_many(&self, keys: &[K]) -> Many<V> {
        self.named_many("get_many", self.read_many(keys, None).await)
    }

    /// Reads the values of many keys. `load` makes the values that no tier has, in one grouped load. The
    /// future of `load` gives pairs of a key and a value, and a key without a pair is absent.
    ///
    /// `load` gets no key that another caller is already loading: the call waits for that caller's load.
    /// Keys that are served stale, and are to be renewed, are in the same load. If only stale keys need
    /// a load, the load runs in the background.
    ///
    /// # Errors
    /// Each key has its own error, as in [`get_or_load`](Cache::get_or_load). If a grouped loader fails,
    /// all keys of its call get the error.
    ///
    /// # Cost
    /// The reads cost as much as in [`get_many`](Cache::get_many), and a load that is not ready at its
    /// first poll is one spawned task.
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
        F: Future<Output = Result<I, E>>,
        F: Send + 'static, // a load outlives its caller: clone what it uses into it, as an Arc
        I: IntoIterator<Item = (K, T)>,
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        self.named_many("get_or_load_many", self.read_many(keys, Some(load_group(load))).await)
    }

    /// Reads the source of truth again, past all copies, and replaces the copies. The source of truth is
    /// the store's record, or without a store the value that `load` gives. A failure leaves the copies
    /// unchanged.
    ///
    /// # Errors
    /// The errors are those of [`get_or_load`](Cache::get_or_load).
    ///
    /// # Cost
    /// The call costs as much as a miss in [`get_or_load`](Cache::get_or_load).
    pub async fn refresh<Q, L, F, T, E>(&self, key: &Q, load: L) -> Result<Option<Cached<V>>>
    where
        Q: BorrowedKey<K> + ?Sized,
        L: FnOnce(LoadContext<V>) -> F + Send,
        F: Future<Output = Result<T, E>>,
        F: Send + 'static, // a load outlives its caller: clone what it uses into it, as an Arc
        T: Into<Item<V>>,
        E: Into<BoxError>,
    {
        self.named("refresh", self.read_anew(key.to_key(), load_one(load)).await)
    }

    /// Writes a value to the store and then to its copies, or in a cache without a store to the cache
    /// tiers. Returns the version of the value. After the put has returned, this process reads the put
    /// value or a newer one.
    ///
    /// In a cache without a store, the value is kept as a copy: it ends with its life, and a full tier may
    /// evict it. It is not kept at all, and the put succeeds nevertheless, where the expiry policy gives it
    /// no life, where the admission policy keeps it out of each tier, and in a cache without any tier.
    ///
    /// # Errors
    /// The call fails with the error of the authority, which is the store, or without a store the
    /// farthest tier. After [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) the write may have
    /// happened. A nearer tier that fails is no error, because this process reads past that tier.
    ///
    /// # Cost
    /// The write makes one round trip to each tier, far to near. It goes on in a spawned task when its caller
    /// goes away, and where another call may have to wait for it
    /// ([`Tier::may_be_held`](terrace_tier::Tier::may_be_held)). A put in a cache that has only a near tier
    /// allocates the entry and spawns nothing.
    pub async fn put<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q, value: V) -> Result<Version> {
        let outcome = self.put_one(key.to_key(), value.into(), Condition::Always).await;
        self.named("put", outcome.and_then(PutOutcome::version))
    }

    /// Writes a value if the key has none. The result says whether the value was written.
    ///
    /// # Errors
    /// The errors are those of [`put`](Cache::put), and
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) at level `Ttl`, which has no order of
    /// writes.
    ///
    /// # Cost
    /// The costs are those of [`put`](Cache::put).
    pub async fn put_if_absent<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q, value: V) -> Result<bool> {
        let outcome = self.put_one(key.to_key(), value.into(), Condition::Absent).await;
        self.named("put_if_absent", outcome.map(|outcome| matches!(outcome, PutOutcome::Kept(_))))
    }

    /// Replaces a value if the value still has the version that the caller saw
    /// ([`Served::version`](crate::Served)). The result says whether the value was written.
    ///
    /// # Errors
    /// The errors are those of [`put_if_absent`](Cache::put_if_absent).
    ///
    /// # Cost
    /// The costs are those of [`put`](Cache::put).
    pub async fn replace<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        seen: Version,
        value: V,
    ) -> Result<bool> {
        let outcome = self.put_one(key.to_key(), value.into(), Condition::Version(seen)).await;
        self.named("replace", outcome.map(|outcome| matches!(outcome, PutOutcome::Kept(_))))
    }

    /// Drops the copies of a key in every cache tier. A store keeps its record. The result says whether
    /// the key had a copy. The value of a load that is under way is not kept in any tier.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Partial`](crate::ErrorKind::Partial) if a tier did not confirm
    /// the invalidation. This process reads past an unconfirmed tier for the key until the tier confirms.
    /// The tiers that did confirm have dropped the copy.
    ///
    /// # Cost
    /// The call makes one round trip to each cache tier, far to near. It goes on if its caller goes away.
    pub async fn invalidate<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.named("invalidate", self.remove_one(key.to_key(), Removal::Copies).await)
    }

    /// Drops the copies of many keys, and gives one result for each key, in order.
    ///
    /// # Errors
    /// Each key has its own error, as in [`invalidate`](Cache::invalidate).
    ///
    /// # Cost
    /// The call makes one round trip to each tier.
    pub async fn invalidate_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let results = self.remove_all(keys.to_vec(), Removal::Copies).await;
        results.into_iter().map(|result| self.named("invalidate_many", result)).collect()
    }

    /// Deletes a key in all tiers and in the store. The result says whether the key had a value.
    ///
    /// # Errors
    /// The errors are those of [`invalidate`](Cache::invalidate), and those of the store. If the store
    /// fails, its record still exists, or may exist after
    /// [`ErrorKind::Unknown`](crate::ErrorKind::Unknown). The copies were dropped nevertheless.
    pub async fn remove<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        self.named("remove", self.remove_one(key.to_key(), Removal::Everywhere).await)
    }

    /// Deletes many keys in all tiers and in the store, and gives one result for each key, in order.
    ///
    /// # Errors
    /// Each key has its own error, as in [`remove`](Cache::remove).
    ///
    /// # Cost
    /// The call makes one round trip to each tier.
    pub async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let results = self.remove_all(keys.to_vec(), Removal::Everywhere).await;
        results.into_iter().map(|result| self.named("remove_many", result)).collect()
    }

    /// Whether a key has a value. The call is a read like [`get`](Cache::get), at the same cost: the
    /// call runs a bound loader, and the engine counts the read as a use.
    ///
    /// # Errors
    /// The errors are those of [`get`](Cache::get).
    pub async fn contains<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<bool> {
        let answer = self.get(key).await;
        self.named("contains", answer.map(|value| value.is_some()))
    }

    /// The near tier's answer, which is `Ok(None)` for a negative entry. The error holds the entry of
    /// the near tier that does not answer, if there is one. At the level that the cache was built at, a
    /// hit costs one comparison and one reference count.
    ///
    /// Each read asks the engine once. The engine counts a miss as a use of the key, and two uses for
    /// one read cost more than a point of the hit ratio (measured).
    #[inline]
    pub(crate) fn near_hit<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        loads: bool,
    ) -> Result<Option<Cached<V>>, NearMiss<V>> {
        self.ask_near::<true, Q>(key, loads)
    }

    /// The near tier's answer to a read that it did not answer before, and that has counted as a miss.
    pub(crate) fn near_hit_after_miss<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        loads: bool,
    ) -> Result<Option<Cached<V>>, NearMiss<V>> {
        self.ask_near::<false, Q>(key, loads)
    }

    #[inline]
    fn ask_near<const COUNTS: bool, Q: BorrowedKey<K> + ?Sized>(
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
        if COUNTS {
            inner.near_counters.hits.add(1);
            if inner.observed {
                inner.note_request(RecordedOp::Get, self.tenant, key);
                inner.observe_near_hit(&entry);
            }
        }
        Ok(Cached::near(entry, now))
    }
}
