//! What the tiers of one handle share.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::PgConnection;
use terrace_core::{Error, ErrorKind, Result, Spaces, waiting::Inbox};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    clean,
    error::{During, misses_schema, typed},
    followers::Followers,
    leases::PostgresLeases,
    once::Once,
    pool::{Pool, Session},
    setup,
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
    prepared: Once<()>,
    /// Wakes the cleaner after a clear.
    pub(crate) cleared: Arc<Notify>,
    /// Deletes what is dead; it may end with its runtime.
    pub(crate) cleaner: Mutex<Option<JoinHandle<()>>>,
    /// Who follows the outbox.
    pub(crate) followers: Followers,
    /// The leases that this process holds and waits for.
    pub(crate) inbox: Inbox<PostgresLeases>,
    pub(crate) spaces: Spaces,
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
            spaces: Spaces::default(),
        }
    }

    /// Makes or moves forward the schema, once, and sees to it that it is kept clean.
    pub(crate) async fn prepared(self: &Arc<Self>) -> Result<()> {
        let work = || {
            let shared = Arc::clone(self);
            async move { setup::prepare(&shared.pool, &shared.schema).await }
        };
        self.prepared.get(work).await?;
        clean::start(self);
        Ok(())
    }

    /// The same for who is in a transaction, which asks for itself: it may have the only connection of
    /// its pool, and would wait for its own end.
    pub(crate) async fn prepared_beside(self: &Arc<Self>, transaction: &mut PgConnection) -> Result<()> {
        if self.prepared.peek().is_none() && setup::is_made(transaction, &self.schema).await? {
            self.prepared.put(());
        }
        let prepared = Box::pin(self.prepared()).await;
        prepared.map_err(|error| match error.kind() {
            ErrorKind::Timeout => Error::new(
                ErrorKind::Timeout,
                "the library's schema could not be made in time beside this transaction, whose pool may \
                 have no other connection: call `Postgres::prepare` before the first one",
            )
            .with_source(error),
            _ => error,
        })
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
