//! What the tiers of one handle share.

use std::sync::Arc;

use parking_lot::Mutex;
use terrace_tier::{NamespaceRegistry, Result, lease::LeaseTracker};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    error::{During, misses_schema, typed},
    followers::Followers,
    leases::PostgresLeases,
    once::Once,
    pool::{Pool, Session},
    statements::Statements,
};

/// What all tiers of a handle share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) statements: Statements,
    /// Of the cache role.
    pub(crate) max_value_bytes: usize,
    /// Its name, quoted.
    pub(crate) schema: String,
    pub(crate) prepared: Once<()>,
    /// Wakes the cleaner after a clear.
    pub(crate) cleared: Arc<Notify>,
    /// Deletes what is dead; it may end with its runtime.
    pub(crate) cleaner: Mutex<Option<JoinHandle<()>>>,
    /// Who follows the outbox.
    pub(crate) followers: Followers,
    /// The leases that this process holds and waits for.
    pub(crate) inbox: LeaseTracker<PostgresLeases>,
    pub(crate) spaces: NamespaceRegistry,
}

impl Shared {
    pub(crate) fn new(pool: Pool, schema: &str, max_value_bytes: usize) -> Self {
        let schema = format!("\"{schema}\"");
        let statements = Statements::new(&schema);
        Self {
            inbox: PostgresLeases::inbox(&pool, &statements.leases),
            pool,
            statements,
            max_value_bytes,
            schema,
            prepared: Once::new(),
            cleared: Arc::new(Notify::new()),
            cleaner: Mutex::default(),
            followers: Followers::default(),
            spaces: NamespaceRegistry::default(),
        }
    }

    /// A connection; the caller bounds the wait.
    pub(crate) async fn session(&self) -> Result<Session> {
        self.pool.session().await.map_err(|error| typed(error, During::Connect))
    }

    /// The typed error for what a statement gave.
    pub(crate) fn note<T>(&self, result: Result<T, sqlx::Error>, during: During) -> Result<T> {
        result.map_err(|error| {
            if misses_schema(&error) {
                self.prepared.forget();
            }
            typed(error, during)
        })
    }
}
