//! This process follows the log: when another process changes a key, it drops its older near copy.

use std::sync::{Arc, Weak};

use terrace_tier::{
    Follower, Notice, Version,
    defence::{Defence, enabled},
};
use tokio::{sync::Notify, time::Instant};

use super::{
    proof::{ANY_AGE, ProofSource},
    watermark::dated,
};
use crate::{
    Key, Value,
    cache::Inner,
    chain::Chain,
    near::{Near, TenantId, TenantKey, TenantKeyRef},
};

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Follows the log of the tiers of `chain`, if the cache has a near tier whose copies another
    /// process can outdate.
    pub(crate) fn follow_log(self: &Arc<Self>, chain: &Chain) {
        if let Some(log) = chain.log().filter(|_| self.follows_log()) {
            self.coherence.expect_heartbeat(self.clock.now());
            let follower = Arc::downgrade(self);
            log.follow(&self.monitor.namespace, follower as Weak<dyn Follower>);
        }
    }

    fn tenant_of(&self, tenant: Option<&str>) -> TenantId {
        let namespace = &self.monitor.namespace;
        tenant.map_or(TenantId::NONE, |tenant| TenantId::named(namespace, tenant))
    }

    /// Handles another process's change of the key. Drops an older near copy, and detaches the key's
    /// flight, so that the near tier does not keep the flight's value.
    fn key_changed(&self, key: &TenantKey<K>, version: Option<Version>) {
        let key_ref = TenantKeyRef { tenant: key.tenant, key: &key.key };
        // A near copy of at least this version came in after the change, and so did the value of the
        // key's flight. A gap ends this order: what caused it may have set the authority's versions back.
        let is_as_new = |version| {
            let held = self.near.get(&key_ref);
            held.is_some_and(|entry| entry.version() >= version && self.coherence.knows_order_of(&entry))
        };
        match version {
            Some(version) => {
                let outdated = || !is_as_new(version);
                self.flights.notice(key, version.as_u64(), outdated, || self.drop_near(key));
            }
            None => self.flights.write_now(key, || self.drop_near(key)),
        }
    }

    /// Removes the copies of one tenant, or of all tenants, from the near tier, and detaches the flights
    /// of those keys.
    pub(crate) fn drop_copies(&self, tenant: Option<TenantId>) {
        self.flights.detach_all(|key| tenant.is_none_or(|tenant| key.tenant == tenant));
        self.near.clear(tenant);
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Follower for Inner<K, V, N> {
    fn change(&self, number: u64, notice: &Notice) {
        if !self.applied.has(number, notice) {
            self.notice(notice);
        }
    }

    fn notice(&self, notice: &Notice) {
        if self.applied.is_own_tombstone(notice) {
            return;
        }
        match notice {
            Notice::Key { tenant, key, version } => {
                // Bytes that do not decode to a key of this cache name no entry of the near tier.
                let key = self.key_codec.as_ref().and_then(|codec| codec.decode(key).ok());
                if let Some(key) = key.filter(|_| enabled(Defence::Notice)) {
                    let tenant = self.tenant_of(tenant.as_deref());
                    self.key_changed(&TenantKey { tenant, key }, *version);
                }
            }
            Notice::Clear { tenant } => {
                let tenant = tenant.as_deref().map(|tenant| self.tenant_of(Some(tenant)));
                self.drop_copies(tenant);
            }
            // A kind of notice that a later version adds may outdate any copy.
            Notice::Lost | _ => {
                self.applied.forget();
                if self.coherence.lose(self.clock.now()) && enabled(Defence::Gap) {
                    self.drop_copies(None);
                }
            }
        }
    }

    fn heartbeat(&self, at: Instant) {
        let at = if enabled(Defence::Dating) { at } else { Instant::now() };
        match &self.proof_source {
            // The tier's log reports changes of the source of truth only as far as a relay has carried
            // them into the tier.
            ProofSource::Watermarks(tracker) if enabled(Defence::Watermarks) => {
                let proven_until = tracker.proven_until();
                if proven_until > ANY_AGE {
                    self.coherence.heartbeat(proven_until);
                }
            }
            ProofSource::None | ProofSource::Log | ProofSource::Watermarks(_) => {
                self.coherence.heartbeat(dated(&self.clock, at));
            }
            ProofSource::ReadTime | ProofSource::Age => {}
        }
    }
    fn is_unused(&self) -> bool {
        self.coherence.is_unused(self.near_counters.hits.sum())
    }

    fn suspend(&self, wake: &Arc<Notify>) {
        self.coherence.suspend(wake);
    }
}
