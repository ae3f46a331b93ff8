//! The namespaces of a handle, and what the tiers of one namespace share.
//!
//! - `layout`: the names of the keys.
//! - `epoch`: the last known epoch.

mod epoch;
mod layout;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use terrace_tier::{Level, Namespace, NamespaceGuard, NamespaceRegistry, Result};
use tokio::time::Instant;

pub(crate) use layout::{
    Layout, LeaseKeys, LogKeys, cells_of, counters_key, is_prefix, ready_prefix, sweep_lock,
};

use epoch::LastEpoch;

/// The state that all tiers of one namespace and tenant share.
#[derive(Debug)]
pub(crate) struct NamespaceState {
    pub(crate) layout: Layout,
    pub(crate) epoch: LastEpoch,
    /// When the options were last registered on the server; `None` before the first
    /// [`ready`](terrace_tier::Tier::ready).
    pub(crate) registered_at: Mutex<Option<Instant>>,
    /// Whether the log reports changes: at all levels but `Ttl`.
    logged: bool,
    /// Keeps other tiers from using the namespace with other options; `None` for cells that no tier reads.
    _guard: Option<NamespaceGuard>,
}

impl NamespaceState {
    /// The state of cells that no tier of this handle has open.
    pub(crate) fn detached(layout: Layout) -> Self {
        let (epoch, registered_at) = (LastEpoch::new(), Mutex::new(None));
        Self { layout, epoch, registered_at, logged: false, _guard: None }
    }
}

/// The namespaces and tenants that the tiers of a handle use now.
#[derive(Debug, Default)]
pub(crate) struct NamespaceStates {
    registry: NamespaceRegistry,
    states: HashMap<(String, Option<String>), Weak<NamespaceState>>,
    /// The size of the map at which unused entries are removed.
    sweep_at: usize,
}

impl NamespaceStates {
    pub(crate) fn new(registry: NamespaceRegistry) -> Self {
        Self { registry, ..Self::default() }
    }

    /// The state of `namespace`, shared with the tiers that have it open.
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`](terrace_tier::ErrorKind::NamespaceInUse) while another tier uses
    /// the namespace with other options.
    pub(crate) fn open(&mut self, prefix: &str, namespace: &Namespace) -> Result<Arc<NamespaceState>> {
        let guard = self.registry.claim(namespace)?;
        let name = (namespace.name.clone(), namespace.tenant.clone());
        if let Some(state) = self.states.get(&name).and_then(Weak::upgrade) {
            return Ok(state);
        }
        let state = Arc::new(NamespaceState {
            layout: Layout::new(prefix, namespace),
            epoch: LastEpoch::new(),
            registered_at: Mutex::new(None),
            logged: namespace.level != Level::Ttl,
            _guard: Some(guard),
        });
        self.states.insert(name, Arc::downgrade(&state));
        self.sweep();
        Ok(state)
    }

    /// The states whose changes the log reports.
    pub(crate) fn logged(&self) -> Vec<Arc<NamespaceState>> {
        self.states.values().filter_map(Weak::upgrade).filter(|state| state.logged).collect()
    }

    /// The states of `name` whose copies these clears make dead; a clear of `None` clears all tenants.
    pub(crate) fn cleared(&self, name: &str, clears: &[Option<String>]) -> Vec<Arc<NamespaceState>> {
        let all = clears.contains(&None);
        let states = self.states.iter();
        let cleared =
            states.filter(|((namespace, tenant), _)| namespace == name && (all || clears.contains(tenant)));
        cleared.filter_map(|(_, state)| state.upgrade()).collect()
    }

    /// Removes the entries of dropped tiers each time the map has doubled.
    fn sweep(&mut self) {
        if self.states.len() >= self.sweep_at.max(64) {
            self.states.retain(|_, state| state.strong_count() > 0);
            self.sweep_at = 2 * self.states.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use terrace_tier::Role;

    use super::*;

    fn namespace(name: &str, tenant: &str) -> Namespace {
        Namespace::new(name, Role::Cache)
            .with_tenant(Some(tenant.into()))
            .with_type(1, 1)
            .with_budget(Duration::from_millis(50))
    }

    #[test]
    fn tiers_of_one_namespace_and_tenant_share_their_state() {
        let mut states = NamespaceStates::default();
        let first = states.open("p", &namespace("users", "a")).unwrap();
        assert!(Arc::ptr_eq(&first, &states.open("p", &namespace("users", "a")).unwrap()));
        assert!(!Arc::ptr_eq(&first, &states.open("p", &namespace("users", "b")).unwrap()));
    }

    #[test]
    fn dropped_tenants_are_forgotten() {
        let mut states = NamespaceStates::default();
        for number in 0..1_000 {
            states.open("p", &namespace("users", &number.to_string())).unwrap();
        }
        assert!(states.states.len() <= 64);
    }
}
