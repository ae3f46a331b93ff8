//! What the tiers of one handle share.

use std::sync::{
    Weak,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use terrace_tier::{Finding, FindingWatcher, NamespaceRegistry, Result, lease::LeaseTracker};
use tokio::task::JoinHandle;

use super::{once::Once, pool::Pool, setup::SchemaState};
use crate::{
    clean::CleanerState,
    error::{Phase, misses_schema},
    leases::backend::PostgresLeases,
    log::followers::Followers,
    sql::statements::Statements,
};

/// What all tiers of a handle share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    /// The statements that call functions alone, and those that read tables directly.
    called: Statements,
    direct: Statements,
    reads_directly: AtomicBool,
    /// The limit for values in the cache role.
    pub(crate) max_value_bytes: usize,
    /// Whether copies survive a crash of the server.
    pub(super) logged_copies: bool,
    /// The quoted name of the schema.
    pub(crate) schema: String,
    pub(crate) schema_ready: Once<SchemaState>,
    /// What the cleaner has to do, and the task that does it. It ends with its runtime, and the next use
    /// starts another.
    pub(crate) cleaner: CleanerState,
    pub(crate) cleaner_task: Mutex<Option<JoinHandle<()>>>,
    /// The followers of the outbox.
    pub(crate) followers: Followers,
    /// The leases that this process holds and waits for.
    pub(crate) lease_tracker: LeaseTracker<PostgresLeases>,
    pub(crate) namespaces: NamespaceRegistry,
    /// `ready` has found that each connection has a session of its own.
    pub(crate) has_no_pooler: AtomicBool,
    watchers: Mutex<Vec<Weak<dyn FindingWatcher>>>,
}

impl Shared {
    pub(crate) fn new(pool: Pool, schema: &str, max_value_bytes: usize, logged_copies: bool) -> Self {
        let schema = format!("\"{schema}\"");
        let (called, namespaces) = (Statements::new(&schema, false), NamespaceRegistry::default());
        Self {
            lease_tracker: PostgresLeases::tracker(&pool, &called.leases, namespaces.clone()),
            pool,
            direct: Statements::new(&schema, true),
            called,
            reads_directly: AtomicBool::new(false),
            max_value_bytes,
            logged_copies,
            schema,
            schema_ready: Once::new(),
            cleaner: CleanerState::default(),
            cleaner_task: Mutex::default(),
            followers: Followers::default(),
            namespaces,
            has_no_pooler: AtomicBool::new(false),
            watchers: Mutex::default(),
        }
    }

    /// The statements to use, by the rights of this role.
    pub(crate) fn statements(&self) -> &Statements {
        if self.reads_directly.load(Ordering::Relaxed) { &self.direct } else { &self.called }
    }

    pub(super) fn read_directly(&self, direct: bool) {
        self.reads_directly.store(direct, Ordering::Relaxed);
    }

    /// Turns the client's error into a typed one. After an error that says that the schema is missing, or
    /// a right on it, the next call looks again.
    pub(crate) fn typed<T>(&self, result: Result<T, sqlx::Error>, phase: Phase) -> Result<T> {
        if result.as_ref().err().is_some_and(misses_schema) {
            self.schema_ready.forget();
        }
        self.pool.typed(result, phase)
    }

    /// Adds a watcher of what is found wrong with the server. Those that are gone are forgotten.
    pub(crate) fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(watcher);
    }

    /// The caches that use this handle, for the log: those with a tier here, else those that follow its log.
    pub(crate) fn cache_names(&self) -> String {
        let names = self.namespaces.names();
        if names.is_empty() { self.followers.names() } else { names }
    }

    /// Tells all watchers of a finding.
    pub(crate) fn tell(&self, finding: &Finding) {
        let watchers: Vec<_> = self.watchers.lock().iter().filter_map(Weak::upgrade).collect();
        watchers.iter().for_each(|watcher| watcher.found(finding));
    }
}
