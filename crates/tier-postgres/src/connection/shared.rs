//! What the tiers of one handle share.

use std::sync::Arc;

use parking_lot::Mutex;
use terrace_tier::{NamespaceRegistry, Result, lease::LeaseTracker};
use tokio::{sync::Notify, task::JoinHandle};

use super::{once::Once, pool::Pool};
use crate::{
    error::{Phase, misses_schema, typed},
    leases::backend::PostgresLeases,
    log::followers::Followers,
    sql::statements::Statements,
};

/// What all tiers of a handle share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) statements: Statements,
    /// The limit for values in the cache role.
    pub(crate) max_value_bytes: usize,
    /// The quoted name of the schema.
    pub(crate) schema: String,
    pub(crate) schema_ready: Once<()>,
    /// Wakes the cleaner after a clear.
    pub(crate) cleared: Arc<Notify>,
    /// The task that deletes dead rows. It ends with its runtime, and the next use starts another.
    pub(crate) cleaner: Mutex<Option<JoinHandle<()>>>,
    /// The followers of the outbox.
    pub(crate) followers: Followers,
    /// The leases that this process holds and waits for.
    pub(crate) lease_tracker: LeaseTracker<PostgresLeases>,
    pub(crate) namespaces: NamespaceRegistry,
}

impl Shared {
    pub(crate) fn new(pool: Pool, schema: &str, max_value_bytes: usize) -> Self {
        let schema = format!("\"{schema}\"");
        let statements = Statements::new(&schema);
        Self {
            lease_tracker: PostgresLeases::tracker(&pool, &statements.leases),
            pool,
            statements,
            max_value_bytes,
            schema,
            schema_ready: Once::new(),
            cleared: Arc::new(Notify::new()),
            cleaner: Mutex::default(),
            followers: Followers::default(),
            namespaces: NamespaceRegistry::default(),
        }
    }

    /// Turns the client's error into a typed one. After an error that says that the schema is missing,
    /// the next call makes it again.
    pub(crate) fn typed<T>(&self, result: Result<T, sqlx::Error>, phase: Phase) -> Result<T> {
        result.map_err(|error| {
            if misses_schema(&error) {
                self.schema_ready.forget();
            }
            typed(error, phase)
        })
    }
}
