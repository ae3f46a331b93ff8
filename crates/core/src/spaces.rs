//! Which namespaces a backend handle serves, and on what terms.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::{Error, ErrorKind, Result, Role, Space};

/// The namespaces that the caches of one backend handle use, each on one set of terms: two caches
/// that took the same bytes for different types would read each other's values.
///
/// A backend keeps one and asks it in [`open`](crate::Backend::open); its tiers keep the claim.
///
/// ```
/// # use terrace_core::{Spaces, Space, Role, Level, ErrorKind};
/// # let space = Space { namespace: "users".into(), tenant: None, role: Role::Cache,
/// #     level: Level::Fenced, schema: 1, shape: 7, budget: std::time::Duration::from_millis(50) };
/// let spaces = Spaces::default();
/// let claim = spaces.claim(&space)?;
/// let other = Space { schema: 2, ..space.clone() };
/// assert_eq!(spaces.claim(&other).unwrap_err().kind(), ErrorKind::NamespaceInUse);
/// drop(claim);
/// assert!(spaces.claim(&other).is_ok());
/// # Ok::<_, terrace_core::Error>(())
/// ```
#[derive(Default)]
pub struct Spaces(Mutex<HashMap<String, Weak<Terms>>>);

/// A namespace in use; its terms hold until the last claim is dropped.
#[derive(Clone)]
pub struct Claim(Arc<Terms>);

/// What all caches of a namespace agree on; tenants and budgets may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    role: Role,
    /// By name: each cache has a bound of its own.
    level: &'static str,
    schema: u32,
    shape: u64,
}

impl Spaces {
    /// Claims the namespace of `space` on its terms, beside others on the same terms.
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] where a claim on other terms is alive.
    pub fn claim(&self, space: &Space) -> Result<Claim> {
        let Space { role, level, schema, shape, .. } = *space;
        let wanted = Terms { role, level: level.name(), schema, shape };
        let mut spaces = self.0.lock();
        if let Some(held) = spaces.get(&space.namespace).and_then(Weak::upgrade) {
            return if *held == wanted { Ok(Claim(held)) } else { Err(in_use(space, &held, &wanted)) };
        }
        spaces.retain(|_, terms| terms.strong_count() > 0);
        let terms = Arc::new(wanted);
        spaces.insert(space.namespace.clone(), Arc::downgrade(&terms));
        Ok(Claim(terms))
    }
}

fn in_use(space: &Space, held: &Terms, wanted: &Terms) -> Error {
    let message = format!(
        "the namespace `{}` is in use on other terms: {held:?}, now asked for {wanted:?}; \
         give one of the caches another name",
        space.namespace
    );
    Error::new(ErrorKind::NamespaceInUse, message)
}

impl fmt::Debug for Spaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spaces").field("known", &self.0.lock().len()).finish()
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.0).finish()
    }
}
