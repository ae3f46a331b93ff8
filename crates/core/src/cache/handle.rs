//! The handle of a cache: cheap to clone, and every clone is the same cache.

use std::{fmt, sync::Arc};

use super::{Cache, inner::Inner, proof::MaxStaleness, reading::ReadMode};
use crate::{Level, chain::Chain};

impl<K, V, N> Cache<K, V, N> {
    /// The cache at the level that it was built at.
    pub(super) fn new(inner: Arc<Inner<K, V, N>>, chain: Arc<Chain>) -> Self {
        let level = inner.level;
        Self::at_level(inner, chain, level)
    }

    pub(super) fn at_level(inner: Arc<Inner<K, V, N>>, chain: Arc<Chain>, level: Level) -> Self {
        let (tenant, stored) = (chain.tenant, chain.store.is_some());
        let reading = ReadMode::of(inner.level, level, inner.within, stored, &inner.clock);
        let as_built = level == inner.level && reading != ReadMode::Truth;
        let within = if as_built { inner.within } else { MaxStaleness::NEVER };
        Self { inner, chain, tenant, reading, within }
    }
}

impl<K, V, N> Clone for Cache<K, V, N> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            chain: Arc::clone(&self.chain),
            tenant: self.tenant,
            reading: self.reading,
            within: self.within,
        }
    }
}

impl<K, V, N> fmt::Debug for Cache<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers: Vec<&str> = self.chain.tiers.iter().map(|place| place.line.name).collect();
        f.debug_struct("Cache")
            .field("namespace", &self.inner.monitor.namespace)
            .field("tiers", &tiers)
            .field("store", &self.chain.store.as_ref().map(|store| store.line.name))
            .finish_non_exhaustive()
    }
}
