//! The schema is made before the first statement that needs it, and is kept clean from then on.

use std::sync::Arc;

use sqlx::PgConnection;
use terrace_tier::{Error, ErrorKind, Result};

use crate::{clean, setup, shared::Shared};

impl Shared {
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
}
