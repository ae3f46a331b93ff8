//! The namespaces of a handle: what their tiers share, and that no two use one on other terms.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_core::{ErrorKind, Level, Result, Role, Space};
use tokio::time::Instant;

use crate::{fault::error, heard::Heard, layout::Layout, reclaim::Pending};

/// What all tiers of one namespace and tenant share.
#[derive(Debug)]
pub(crate) struct SpaceState {
    pub(crate) layout: Layout,
    pub(crate) heard: Heard,
    pub(crate) terms: Arc<Terms>,
    /// When the terms were last registered on the server, if [`ready`](terrace_core::Tier::ready)
    /// was asked for that.
    pub(crate) registered: Mutex<Option<Instant>>,
    pub(crate) reclaim: Pending,
}

/// The terms on which a namespace is used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    role: Role,
    level: Level,
    schema: u32,
    shape: u64,
}

impl Terms {
    /// So long they hold on the server without being registered again.
    pub(crate) const HOLD: Duration = Duration::from_secs(60);
    /// A tier in use registers them again after this.
    pub(crate) const RENEW: Duration = Duration::from_secs(20);

    fn of(space: &Space) -> Self {
        Self { role: space.role, level: space.level, schema: space.schema, shape: space.shape }
    }
}

/// As it stands on the server.
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, level, schema, shape } = self;
        write!(f, "role={role:?} level={level:?} schema={schema} shape={shape:016x}")
    }
}

/// The namespaces that a handle's tiers use now.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    terms: HashMap<String, Weak<Terms>>,
    states: HashMap<(String, Option<String>), Weak<SpaceState>>,
    swept_at: usize,
}

impl Spaces {
    /// The state of `space`, shared with the tiers that have it open.
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] while a tier is alive that uses the namespace on other terms.
    pub(crate) fn open(&mut self, prefix: &str, space: &Space) -> Result<Arc<SpaceState>> {
        let terms = self.agree(space)?;
        let name = (space.namespace.clone(), space.tenant.clone());
        if let Some(state) = self.states.get(&name).and_then(Weak::upgrade) {
            return Ok(state);
        }
        let state = Arc::new(SpaceState {
            layout: Layout::new(prefix, space),
            heard: Heard::default(),
            terms,
            registered: Mutex::new(None),
            reclaim: Pending::default(),
        });
        self.states.insert(name, Arc::downgrade(&state));
        self.sweep();
        Ok(state)
    }

    fn agree(&mut self, space: &Space) -> Result<Arc<Terms>> {
        let terms = Terms::of(space);
        match self.terms.get(&space.namespace).and_then(Weak::upgrade) {
            Some(held) if *held == terms => Ok(held),
            Some(held) => Err(in_use(&space.namespace, &terms, &held.to_string())),
            None => {
                let terms = Arc::new(terms);
                self.terms.insert(space.namespace.clone(), Arc::downgrade(&terms));
                Ok(terms)
            }
        }
    }

    /// Forgets what nobody holds, each time the map has doubled.
    fn sweep(&mut self) {
        if self.states.len() >= self.swept_at.max(64) {
            self.states.retain(|_, state| state.strong_count() > 0);
            self.terms.retain(|_, terms| terms.strong_count() > 0);
            self.swept_at = 2 * self.states.len();
        }
    }
}

/// The error for two terms of one namespace.
pub(crate) fn in_use(namespace: &str, ours: &Terms, theirs: &str) -> terrace_core::Error {
    error(
        ErrorKind::NamespaceInUse,
        format!("the namespace {namespace:?} is in use with {theirs}, and cannot be used with {ours}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(namespace: &str, schema: u32) -> Space {
        Space {
            namespace: namespace.into(),
            tenant: None,
            role: Role::Cache,
            level: Level::Fenced,
            schema,
            shape: 1,
            budget: Duration::from_millis(50),
        }
    }

    #[test]
    fn a_namespace_has_one_set_of_terms_while_it_is_used() {
        let mut spaces = Spaces::default();
        let first = spaces.open("p", &space("users", 1)).unwrap();
        let again = spaces.open("p", &space("users", 1)).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let refused = spaces.open("p", &space("users", 2)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NamespaceInUse);
        drop((first, again));
        assert!(spaces.open("p", &space("users", 2)).is_ok());
    }

    #[test]
    fn dropped_namespaces_are_forgotten() {
        let mut spaces = Spaces::default();
        for number in 0..1_000 {
            spaces.open("p", &space(&format!("space-{number}"), 1)).unwrap();
        }
        assert!(spaces.states.len() <= 64 && spaces.terms.len() <= 64);
    }
}
