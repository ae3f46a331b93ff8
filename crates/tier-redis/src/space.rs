//! The namespaces of a handle: what their tiers share.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::AtomicUsize},
};

use parking_lot::Mutex;
use terrace_tier::{Level, Namespace, NamespaceGuard, NamespaceRegistry, Result};
use tokio::time::Instant;

use crate::{heard::Heard, layout::Layout};

/// What all tiers of one namespace and tenant share.
#[derive(Debug)]
pub(crate) struct NamespaceState {
    pub(crate) layout: Layout,
    pub(crate) heard: Heard,
    /// When the terms were last registered on the server, if [`ready`](terrace_tier::Tier::ready)
    /// was asked for that.
    pub(crate) registered: Mutex<Option<Instant>>,
    /// The clears whose memory is still to be freed.
    pub(crate) reclaim: AtomicUsize,
    /// Whether changes are told in the log, as those of level `Ttl` are not.
    fenced: bool,
    /// Keeps others from using the namespace on other terms.
    _claim: NamespaceGuard,
}

impl NamespaceState {
    /// The epoch that makes dead what is older of all tenants, those too that nobody uses now.
    pub(crate) fn widest_epoch(&self) -> &str {
        self.layout.common.as_deref().unwrap_or(&self.layout.epoch)
    }
}

/// The namespaces and tenants that a handle's tiers use now.
#[derive(Debug, Default)]
pub(crate) struct States {
    claims: NamespaceRegistry,
    states: HashMap<(String, Option<String>), Weak<NamespaceState>>,
    sweep_at: usize,
}

impl States {
    /// The state of `space`, shared with the tiers that have it open.
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`](terrace_tier::ErrorKind::NamespaceInUse) while a tier is
    /// alive that uses the namespace on other terms.
    pub(crate) fn open(&mut self, prefix: &str, space: &Namespace) -> Result<Arc<NamespaceState>> {
        let claim = self.claims.claim(space)?;
        let name = (space.name.clone(), space.tenant.clone());
        if let Some(state) = self.states.get(&name).and_then(Weak::upgrade) {
            return Ok(state);
        }
        let state = Arc::new(NamespaceState {
            layout: Layout::new(prefix, space),
            heard: Heard::new(),
            registered: Mutex::new(None),
            reclaim: AtomicUsize::new(0),
            fenced: space.level != Level::Ttl,
            _claim: claim,
        });
        self.states.insert(name, Arc::downgrade(&state));
        self.sweep();
        Ok(state)
    }

    /// Those in use whose copies the log vouches for.
    pub(crate) fn fenced(&self) -> Vec<Arc<NamespaceState>> {
        self.states.values().filter_map(Weak::upgrade).filter(|state| state.fenced).collect()
    }

    /// Those in use of a namespace whose copies these clears make dead.
    pub(crate) fn cleared(&self, namespace: &str, clears: &[Option<String>]) -> Vec<Arc<NamespaceState>> {
        let all = clears.contains(&None);
        let states = self.states.iter();
        let meant =
            states.filter(|((name, tenant), _)| name == namespace && (all || clears.contains(tenant)));
        meant.filter_map(|(_, state)| state.upgrade()).collect()
    }

    /// Forgets what nobody holds, each time the map has doubled.
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

    fn space(namespace: &str, tenant: &str) -> Namespace {
        Namespace::new(namespace.into(), Role::Cache)
            .with_tenant(Some(tenant.into()))
            .with_type(1, 1)
            .with_budget(Duration::from_millis(50))
    }

    #[test]
    fn tiers_of_one_namespace_and_tenant_share_what_they_hear() {
        let mut states = States::default();
        let first = states.open("p", &space("users", "a")).unwrap();
        assert!(Arc::ptr_eq(&first, &states.open("p", &space("users", "a")).unwrap()));
        assert!(!Arc::ptr_eq(&first, &states.open("p", &space("users", "b")).unwrap()));
    }

    #[test]
    fn dropped_tenants_are_forgotten() {
        let mut states = States::default();
        for number in 0..1_000 {
            states.open("p", &space("users", &number.to_string())).unwrap();
        }
        assert!(states.states.len() <= 64);
    }
}
