//! The handle of a cache: cheap to clone, and every clone is the same cache.

use std::{fmt, sync::Arc};

use super::{Cache, inner::Inner};
use crate::chain::Chain;

impl<K, V, N> Cache<K, V, N> {
    pub(super) fn new(inner: Arc<Inner<K, V, N>>, chain: Arc<Chain>) -> Self {
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
        let tiers: Vec<&str> = self.chain.tiers.iter().map(|place| place.line.name).collect();
        f.debug_struct("Cache")
            .field("namespace", &self.inner.monitor.namespace)
            .field("tiers", &tiers)
            .field("store", &self.chain.store.as_ref().map(|store| store.line.name))
            .finish_non_exhaustive()
    }
}
