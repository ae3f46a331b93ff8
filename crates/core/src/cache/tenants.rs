//! `Tenants` makes a cache for each tenant from one definition.

use std::sync::Arc;

use super::{Cache, chain_spec::ChainSpec, inner::Inner};
use crate::{Error, ErrorKind, Key, Result, Value, near::Near};

/// A family of caches, one for each tenant, that share one near tier, one set of remote tiers, and all
/// settings and limits. Only [`tenant`](Tenants::tenant) returns a cache, so a call that forgets the
/// tenant does not compile.
///
/// ```
/// use terrace_core::Cache;
/// use terrace_tier_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_core::Result<()> {
/// let pages = Cache::<String, u64, Memory<String, u64>>::builder("pages")
///     .near(Memory::entries(1_000))
///     .build_per_tenant()?;
/// pages.tenant("ann")?.put("/", 1).await?;
/// assert!(pages.tenant("bob")?.get("/").await?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct Tenants<K, V, N> {
    pub(super) inner: Arc<Inner<K, V, N>>,
    pub(super) chains: Arc<ChainSpec>,
}

impl<K, V, N> Clone for Tenants<K, V, N> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), chains: Arc::clone(&self.chains) }
    }
}

/// The longest name of a tenant.
const MAX_TENANT_BYTES: usize = 256;

impl<K: Key, V: Value, N: Near<K, V>> Tenants<K, V, N> {
    /// The cache of one tenant. No other tenant's cache sees the entries of this cache, in any tier. The
    /// `clear` of a tenant's cache drops only the tenant's entries.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Key`] for a name longer than 256 bytes.
    ///
    /// # Cost
    /// The call makes a few allocations and no round trip. A caller that makes many calls for one tenant
    /// should keep the handle.
    pub fn tenant(&self, id: &str) -> Result<Cache<K, V, N>> {
        let tenant = if id.len() > MAX_TENANT_BYTES {
            Err(Error::new(ErrorKind::Key, "a tenant's name has at most 256 bytes"))
        } else {
            self.open(Some(id))
        };
        tenant.map_err(|error| error.in_cache(&*self.inner.monitor.namespace).during("tenant"))
    }

    pub(super) fn open(&self, tenant: Option<&str>) -> Result<Cache<K, V, N>> {
        let chain = self.chains.chain(tenant)?;
        self.inner.follow_log(&chain);
        Ok(Cache::new(Arc::clone(&self.inner), Arc::new(chain)))
    }
}
