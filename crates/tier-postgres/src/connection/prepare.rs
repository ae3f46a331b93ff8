//! Makes the schema before the first statement that needs it, and starts its cleaning.

use std::sync::Arc;

use sqlx::PgConnection;
use terrace_tier::{Error, ErrorKind, Result};

use super::{setup, shared::Shared};
use crate::clean;

impl Shared {
    /// Makes or upgrades the schema, once, and starts the task that cleans it.
    pub(crate) async fn prepare_schema(self: &Arc<Self>) -> Result<()> {
        let work = || {
            let shared = Arc::clone(self);
            async move {
                let state = setup::prepare(&shared.pool, &shared.schema).await?;
                if shared.logged_copies {
                    setup::log_copies(&shared.pool, &shared.schema).await?;
                }
                shared.read_directly(state.may_select);
                Ok(state)
            }
        };
        self.schema_ready.get(work).await?;
        clean::start(self);
        Ok(())
    }

    /// As [`prepare_schema`](Self::prepare_schema), for a caller in a transaction. It checks the version
    /// on the transaction's connection first: that may be the only one of its pool, and the wait for
    /// another would be a wait for the transaction's own end.
    pub(crate) async fn prepare_schema_in(self: &Arc<Self>, transaction: &mut PgConnection) -> Result<()> {
        if self.schema_ready.peek().is_none()
            && !self.logged_copies
            && let Some(state) = setup::current(&self.pool, transaction, &self.schema).await?
        {
            self.read_directly(state.may_select);
            self.schema_ready.put(state);
        }
        let prepared = Box::pin(self.prepare_schema()).await;
        prepared.map_err(|error| match error.kind() {
            ErrorKind::Timeout => Error::new(
                ErrorKind::Timeout,
                "the library's schema could not be made in time beside this transaction, whose pool may \
                 have no other connection: call `Postgres::prepare` before the first transaction",
            )
            .with_source(error),
            _ => error,
        })
    }
}
