//! Which namespaces a backend handle serves, and with which settings.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{Error, ErrorKind, Level, Result, Role};

/// What one cache asks of a backend: a namespace, and how the cache uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Namespace {
    /// The name of the cache, of at most 128 bytes.
    pub name: String,
    /// The tenant, where the cache is built per tenant, of at most 256 bytes.
    pub tenant: Option<String>,
    /// Whether the tier is a cache or the store.
    pub role: Role,
    /// How consistent the cache is.
    pub level: Level,
    /// The schema number that the user gave the value type. Caches of a namespace may differ in it: the
    /// envelope of each value says of what type it is.
    pub schema: u32,
    /// The fingerprint of the value type's shape. Caches of a namespace may differ in it.
    pub shape: u64,
    /// How long one request may take in this tier, with its time in queues and its round trips.
    pub budget: Duration,
    /// Whether hits are copied into a nearer shared tier. The nearer tier may have been cleared after this
    /// one, so a read here must find nothing that was dead when it began: a tier that hears of a clear late
    /// asks for the epoch with each such read.
    pub is_promoted: bool,
}

impl Namespace {
    /// The namespace `name` in this role, without a tenant, at level [`Level::Fenced`], with schema 0,
    /// shape 0 and a budget of 50 ms.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            tenant: None,
            role,
            level: Level::Fenced,
            schema: 0,
            shape: 0,
            budget: Duration::from_millis(50),
            is_promoted: false,
        }
    }

    /// The same settings under another name.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same namespace for this tenant, or without a tenant.
    #[must_use]
    pub fn with_tenant(self, tenant: Option<String>) -> Self {
        Self { tenant, ..self }
    }

    /// The same namespace in this role.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// The same namespace at this level.
    #[must_use]
    pub fn with_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// The same namespace with this schema number and shape of the value type.
    #[must_use]
    pub fn with_type(self, schema: u32, shape: u64) -> Self {
        Self { schema, shape, ..self }
    }

    /// The same namespace with this budget for one request.
    #[must_use]
    pub fn with_budget(self, budget: Duration) -> Self {
        Self { budget, ..self }
    }

    /// The same namespace behind a nearer shared tier, or in front of all of them.
    #[must_use]
    pub fn with_promotion(self, is_promoted: bool) -> Self {
        Self { is_promoted, ..self }
    }

    /// The budget of a batch of `keys` keys: one budget, and one more for every hundred keys.
    pub fn budget_for(&self, keys: usize) -> Duration {
        let hundreds = u32::try_from(keys / 100).unwrap_or(u32::MAX);
        self.budget.saturating_mul(hundreds.saturating_add(1))
    }
}

/// The namespaces that the caches of one backend handle use, each with one set of options: role and level.
/// A cache that kept copies where another one keeps records, or wrote without fences where another one relies
/// on them, would make the other one's answers wrong. Their value types may differ.
///
/// A backend keeps one registry and claims the namespace in [`open`](crate::Backend::open). Its tiers keep
/// the guard. A clone is a handle of the same registry: what runs in the background for all caches of the
/// backend logs their [`names`](Self::names).
///
/// ```
/// # use terrace_tier::{ErrorKind, Level, Namespace, NamespaceRegistry, Role};
/// let registry = NamespaceRegistry::default();
/// let users = Namespace::new("users", Role::Cache).with_type(1, 7);
/// let guard = registry.claim(&users)?;
/// assert!(registry.claim(&users.clone().with_type(2, 8)).is_ok());
/// let other = users.with_level(Level::Ttl);
/// assert_eq!(registry.claim(&other).unwrap_err().kind(), ErrorKind::NamespaceInUse);
/// drop(guard);
/// assert!(registry.claim(&other).is_ok());
/// # Ok::<_, terrace_tier::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct NamespaceRegistry(Arc<Mutex<HashMap<String, Weak<NamespaceOptions>>>>);

/// The most names of caches in one line of a log.
const MOST_NAMES: usize = 8;

/// A namespace in use. Its options are fixed until the last guard of the namespace is dropped.
#[derive(Clone)]
pub struct NamespaceGuard(Arc<NamespaceOptions>);

/// What all caches of a namespace agree on. Their tenants, value types and budgets may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NamespaceOptions {
    role: Role,
    /// The name alone, since each cache has a bound of its own.
    level: &'static str,
}

impl NamespaceRegistry {
    /// Claims `namespace`. Any number of caches may claim it with the same options.
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] while a guard with other options is alive.
    ///
    /// # Cost
    /// One lock and at most one allocation.
    pub fn claim(&self, namespace: &Namespace) -> Result<NamespaceGuard> {
        let wanted = NamespaceOptions { role: namespace.role, level: namespace.level.name() };
        let mut in_use = self.0.lock();
        if let Some(held) = in_use.get(&namespace.name).and_then(Weak::upgrade) {
            return if *held == wanted {
                Ok(NamespaceGuard(held))
            } else {
                Err(conflict(namespace, &held, &wanted))
            };
        }
        in_use.retain(|_, options| options.strong_count() > 0);
        let options = Arc::new(wanted);
        in_use.insert(namespace.name.clone(), Arc::downgrade(&options));
        Ok(NamespaceGuard(options))
    }
}

impl NamespaceRegistry {
    /// The names of the caches that use the backend now, for a log: sorted, with commas between them, and at
    /// most eight.
    ///
    /// # Cost
    /// One lock, and a few allocations.
    pub fn names(&self) -> String {
        let in_use = self.0.lock();
        let mut names: Vec<&str> = in_use
            .iter()
            .filter(|(_, options)| options.strong_count() > 0)
            .map(|(name, _)| &**name)
            .collect();
        names.sort_unstable();
        let rest = names.len().saturating_sub(MOST_NAMES);
        names.truncate(MOST_NAMES);
        let names = names.join(", ");
        if rest == 0 { names } else { format!("{names} and {rest} more") }
    }
}

fn conflict(namespace: &Namespace, held: &NamespaceOptions, wanted: &NamespaceOptions) -> Error {
    let message = format!(
        "another cache of this backend uses the namespace `{}` {}; give one of the two caches another name",
        namespace.name,
        held.differences(wanted)
    );
    Error::new(ErrorKind::NamespaceInUse, message)
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Cache => "cache",
        Role::Store => "store",
    }
}

impl NamespaceOptions {
    /// What differs from `wanted`, in words.
    fn differences(&self, wanted: &Self) -> String {
        let mut differences = Vec::new();
        if self.role != wanted.role {
            differences.push(format!("as a {}, and this cache as a {}", word(self.role), word(wanted.role)));
        }
        if self.level != wanted.level {
            differences.push(format!("at level {}, and this cache at level {}", self.level, wanted.level));
        }
        differences.join("; ")
    }
}

impl fmt::Debug for NamespaceRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceRegistry").field("known", &self.0.lock().len()).finish()
    }
}

impl fmt::Debug for NamespaceGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamespaceGuard").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_in_use_says_in_words_what_differs() {
        let registry = NamespaceRegistry::default();
        let used = Namespace::new("users", Role::Cache).with_type(1, 0xfeed_beef);
        let guard = registry.claim(&used);
        let told = |wanted: Namespace| registry.claim(&wanted).map(|_| ()).expect_err("in use").to_string();
        let all = told(used.clone().with_role(Role::Store).with_level(Level::Strong));
        for words in ["as a cache, and this cache as a store", "and this cache at level strong"] {
            assert!(all.contains(words), "{all}");
        }
        assert!(registry.claim(&used.with_type(2, 0xdead_beef)).is_ok(), "value types may differ");
        drop(guard);
    }

    #[test]
    fn a_registry_names_the_caches_that_live() {
        let registry = NamespaceRegistry::default();
        let claim = |name: &str| registry.claim(&Namespace::new(name, Role::Cache)).expect("free");
        let (orders, users) = (claim("orders"), claim("users"));
        assert_eq!(registry.clone().names(), "orders, users");
        drop((orders, users));
        assert_eq!(registry.names(), "");
        let many: Vec<_> = (10..20).map(|number| claim(&number.to_string())).collect();
        assert_eq!(registry.names(), "10, 11, 12, 13, 14, 15, 16, 17 and 2 more");
        drop(many);
    }
}
