//! Applications use a cache through its handle. A handle is cheap to clone, and every clone uses the
//! same cache.

use std::{fmt, sync::Arc};

use terrace_tier::Timestamp;

use super::{Cache, inner::Inner};
use crate::{
    Key, Level, Value,
    chain::Chain,
    freshness::{MaxStaleness, ReadMode},
    near::Near,
};

impl<K, V, N> Cache<K, V, N> {
    /// Makes the handle of the level that the cache was built at.
    pub(super) fn new(inner: Arc<Inner<K, V, N>>, chain: Arc<Chain>) -> Self {
        let level = inner.level;
        Self::at_level(inner, chain, level)
    }

    fn at_level(inner: Arc<Inner<K, V, N>>, chain: Arc<Chain>, level: Level) -> Self {
        let (tenant, stored) = (chain.tenant, chain.store.is_some());
        let mode = ReadMode::of(inner.level, level, inner.max_staleness, stored, &inner.clock);
        let as_built = level == inner.level && mode != ReadMode::StoreOnly;
        let max_staleness = if as_built { inner.max_staleness } else { MaxStaleness::ZERO };
        Self { inner, chain, tenant, mode, max_staleness }
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// A handle of this cache with another level for its reads, which may be stricter or less strict.
    /// Writes are the same at all levels.
    ///
    /// | built at | `Ttl` | `Fenced` | `Bounded(d)` | `Strong` |
    /// |---|---|---|---|---|
    /// | `Ttl` | as built | error | error | error |
    /// | `Fenced` | any copy within its life | as built | the store | the store |
    /// | `Bounded` | any copy within its life | a copy that the log covered within a second | a copy proven within `d` | the store |
    /// | `Strong` | any copy within its life | a copy that the log covered within a second | the store | as built |
    ///
    /// # Errors
    /// The method `with` itself never fails. Reads fail with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the table says `error`, and where
    /// the table says `the store` and the cache has no store.
    ///
    /// # Cost
    /// A call of `with` adds to two reference counts and makes no round trip. A near hit costs a few
    /// comparisons more than at the level that the cache was built at.
    ///
    /// ```
    /// # use terrace_core::{Cache, Level, NoNear, Result};
    /// # async fn example(accounts: &Cache<u64, i64, NoNear>) -> Result<()> {
    /// let shown = accounts.get(&7).await?; // as the cache was built
    /// let exact = accounts.with(Level::Strong).get(&7).await?; // as the store has it now
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with(&self, level: Level) -> Self {
        Self::at_level(Arc::clone(&self.inner), Arc::clone(&self.chain), level)
    }

    /// How long near copies are valid for a hit of this handle.
    pub(crate) fn max_staleness(&self) -> MaxStaleness {
        self.max_staleness
    }

    /// The oldest proof that a call made now accepts.
    pub(crate) fn oldest_proof(&self) -> Timestamp {
        self.mode.oldest_proof(&self.inner.clock)
    }
}

impl<K, V, N> Clone for Cache<K, V, N> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), chain: Arc::clone(&self.chain), ..*self }
    }
}

impl<K, V, N> fmt::Debug for Cache<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers: Vec<&str> = self.chain.tiers.iter().map(|slot| slot.shared.name).collect();
        f.debug_struct("Cache")
            .field("namespace", &self.inner.monitor.namespace)
            .field("tiers", &tiers)
            .field("store", &self.chain.store.as_ref().map(|store| store.shared.name))
            .finish_non_exhaustive()
    }
}
