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
/// the guard.
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
#[derive(Default)]
pub struct NamespaceRegistry(Mutex<HashMap<String, Weak<NamespaceOptions>>>);

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

impl NamespaceOptions {
    fn in_words(&self) -> String {
        let role = match self.role {
            Role::Cache => "cache tier",
            Role::Store => "store",
        };
        format!("{role} of level {}", self.level)
    }
}

fn conflict(namespace: &Namespace, held: &NamespaceOptions, wanted: &NamespaceOptions) -> Error {
    let message = format!(
        "the namespace `{}` is in use as a {}, and this cache asks for a {}; give one of the caches another name",
        namespace.name,
        held.in_words(),
        wanted.in_words()
    );
    Error::new(ErrorKind::NamespaceInUse, message)
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
