//! Hearing what other processes change: what the log tells, and what becomes of near copies then.

use std::{
    hash::Hash,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use super::{
    grounds::ProofSource,
    inner::Inner,
    proof::{ANY, dated},
};
use crate::{
    Follower, Near, Notice, Version,
    chain::Chain,
    defence::{Defence, enabled},
    near::{TenantId, TenantKey, TenantKeyRef},
};

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Hears what other processes change in the tiers of `chain`, if there is a near tier to
    /// care for.
    pub(crate) fn listen(self: &Arc<Self>, chain: &Chain) {
        let follows = self.near.is_enabled() && self.level.is_fenced();
        if let Some(log) = chain.log().filter(|_| follows) {
            let follower = Arc::downgrade(self);
            log.follow(&self.monitor.namespace, follower as Weak<dyn Follower>);
        }
    }

    fn tenant_of(&self, tenant: Option<&str>) -> TenantId {
        let namespace = &self.monitor.namespace;
        tenant.map_or(TenantId::NONE, |tenant| TenantId::named(namespace, tenant))
    }

    /// Drops a copy that is older than a change, and keeps what is on its way from being kept.
    fn hear_of(&self, key: &TenantKey<K>, version: Option<Version>) {
        let probe = TenantKeyRef { tenant: key.tenant, key: &key.key };
        // What is as new came in after the change, and so did what is on its way.
        let is_as_new = |version| self.near.get(&probe).is_some_and(|entry| entry.version() >= version);
        match version {
            Some(version) => {
                let outdated = || !is_as_new(version);
                self.flights.hear(key, version.as_u64(), outdated, || self.drop_near(key));
            }
            None => self.flights.write_now(key, || self.drop_near(key)),
        }
    }

    /// Empties near of a tenant's copies, or of all, and keeps what is on its way from being kept.
    pub(super) fn drop_copies(&self, tenant: Option<TenantId>) {
        self.flights.detach_all(|key| tenant.is_none_or(|tenant| key.tenant == tenant));
        self.near.clear(tenant);
    }
}

impl<K, V, N> Follower for Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Key { tenant, key, version } => {
                // Every key of this cache is read back from its bytes: others are not in near.
                let key = self.keys.as_ref().and_then(|keys| keys.key_in(key).ok());
                if let Some(key) = key.filter(|_| enabled(Defence::Notice)) {
                    let tenant = self.tenant_of(tenant.as_deref());
                    self.hear_of(&TenantKey { tenant, key }, *version);
                }
            }
            Notice::Clear { tenant } => {
                let tenant = tenant.as_deref().map(|tenant| self.tenant_of(Some(tenant)));
                self.drop_copies(tenant);
            }
            // A notice of a later version: nothing kept before it is certain.
            Notice::Lost | _ => {
                if self.trust.lose(self.clock.now()) && enabled(Defence::Gap) {
                    self.drop_copies(None);
                }
            }
        }
    }

    fn heartbeat(&self, at: Instant) {
        let at = if enabled(Defence::Dating) { at } else { Instant::now() };
        match &self.grounds {
            // This log tells of the truth as far as a relay has carried it.
            ProofSource::Watermarks(marks) if enabled(Defence::Watermarks) => {
                let told = marks.told();
                if told > ANY {
                    self.trust.hear(told);
                }
            }
            ProofSource::None | ProofSource::Log | ProofSource::Watermarks(_) => {
                self.trust.hear(dated(&self.clock, at))
            }
            ProofSource::ReadTime | ProofSource::Age => {}
        }
    }
}
