//! The chain holds the remote tiers of a cache in order. Budgets, health and debts apply to each call of
//! a tier.

mod debt;
mod health;
mod monitor;
mod names;
mod probe;
mod slot;
mod warnings;

pub(crate) use monitor::{Monitor, TierCounters};
pub(crate) use slot::{FULL_BUDGET, TierShared, TierSlot};
pub(crate) use warnings::Warnings;

use std::sync::Arc;

use terrace_tier::{
    InvalidationLog, Scope, Version,
    defence::{Defence, enabled},
};

use crate::near::TenantId;

/// The remote tiers as one tenant of a cache sees them.
pub(crate) struct Chain {
    pub(crate) tenant: TenantId,
    /// The scope, which makes the digests of the tenant's keys.
    pub(crate) scope: Scope,
    /// The cache tiers from near to far.
    pub(crate) tiers: Vec<TierSlot>,
    pub(crate) store: Option<TierSlot>,
    /// The log of the origin, if the cache was given one.
    pub(crate) origin_log: Option<Arc<dyn InvalidationLog>>,
    /// The name of the backend that keeps the log of the origin.
    pub(crate) origin_name: Option<String>,
    /// The tenant's name, if the cache was built per tenant.
    pub(crate) tenant_name: Option<String>,
}

impl Chain {
    /// The authority, which is the tier that issues versions: the store, or without a store the farthest
    /// tier.
    pub(crate) fn authority(&self) -> Option<&TierSlot> {
        self.store.as_ref().or(self.tiers.last())
    }

    /// Whether the tier in this slot is the authority.
    pub(crate) fn is_authority(&self, slot: &TierSlot) -> bool {
        self.authority().is_some_and(|authority| Arc::ptr_eq(&authority.shared, &slot.shared))
    }

    /// Whether the tier in this slot is the farthest cache tier.
    pub(crate) fn is_farthest_cache(&self, slot: &TierSlot) -> bool {
        self.tiers.last().is_some_and(|last| Arc::ptr_eq(&last.shared, &slot.shared))
    }

    /// The cache tiers that follow the authority, from far to near.
    pub(crate) fn followers(&self) -> impl Iterator<Item = &TierSlot> {
        let count = if self.store.is_some() { self.tiers.len() } else { self.tiers.len().saturating_sub(1) };
        in_order(&self.tiers[..count])
    }

    /// Whether a copy of the version `kept` may be older than a value of `version`. A store's versions say which of the
    /// two is older. A cache tier that is the authority may forget a key while its clock is behind: the version that
    /// it issues then is below that of the older copy. A copy that came later looks the same.
    pub(crate) fn may_be_older(&self, kept: Version, version: Version) -> bool {
        self.store.is_none() && kept > version && enabled(Defence::LowerVersion)
    }

    /// All tiers from far to near, the store first.
    pub(crate) fn far_to_near(&self) -> impl Iterator<Item = &TierSlot> {
        self.store.iter().chain(in_order(&self.tiers))
    }

    /// The log that a near tier in front of this chain follows. The nearest tier with a log provides
    /// this log, since a write changes that tier last.
    pub(crate) fn log(&self) -> Option<&dyn InvalidationLog> {
        let log = self.tiers.iter().chain(&self.store).find_map(|slot| slot.log());
        log.or(self.origin_log.as_deref())
    }

    pub(crate) fn is_local(&self) -> bool {
        self.tiers.is_empty() && self.store.is_none()
    }
}

/// Tiers in the order in which they are changed.
fn in_order(tiers: &[TierSlot]) -> impl Iterator<Item = &TierSlot> {
    let (last, reverse) = (tiers.len().saturating_sub(1), enabled(Defence::FarToNear));
    (0..tiers.len()).map(move |at| &tiers[if reverse { last - at } else { at }])
}
