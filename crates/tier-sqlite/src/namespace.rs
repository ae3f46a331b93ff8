//! A namespace of one tenant in one role, as a row of the file.

use std::sync::Arc;

use sqlx::SqliteConnection;
use terrace_tier::{Epoch, Moment, Namespace, NamespaceGuard, Result};
use tokio::sync::OnceCell;

use crate::{
    error::{During, SqlResult, typed},
    options,
    shared::Shared,
};

/// A [`Namespace`] and its row in the file.
pub(crate) struct NamespaceRow {
    pub(crate) namespace: Namespace,
    pub(crate) shared: Arc<Shared>,
    _guard: NamespaceGuard,
    id: OnceCell<i64>,
}

impl NamespaceRow {
    pub(crate) fn new(namespace: Namespace, shared: Arc<Shared>, guard: NamespaceGuard) -> Self {
        Self { namespace, shared, _guard: guard, id: OnceCell::new() }
    }

    /// The id of the row; the first call inserts the row if it is missing.
    pub(crate) async fn id(&self) -> Result<i64> {
        self.id
            .get_or_try_init(async || {
                let mut writer = self.shared.connections().await?.writer().await;
                let found = find_or_insert(&mut writer.connection, &self.namespace).await;
                found.map_err(|error| typed(error, During::Read))
            })
            .await
            .copied()
    }

    /// Checks that the namespace is used with the options that earlier runs of the program used.
    pub(crate) async fn check_options(&self) -> Result<()> {
        let id = self.id().await?;
        let mut writer = self.shared.connections().await?.writer().await;
        let checked = options::check(&mut writer.connection, &self.namespace, id).await;
        checked.map_err(|error| typed(error, During::Read))?
    }

    /// The moment at which a transition happens, in an epoch of the namespace.
    pub(crate) fn moment(&self, epoch: Epoch) -> Moment {
        let clock = &self.shared.clock;
        Moment::new(self.namespace.role, clock.now(), clock.micros(), epoch)
    }
}

async fn find_or_insert(connection: &mut SqliteConnection, namespace: &Namespace) -> SqlResult<i64> {
    sqlx::query(
        "INSERT INTO spaces (namespace, tenant, role, epoch) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&namespace.name)
    .bind(&namespace.tenant)
    .bind(options::role_name(namespace.role))
    .bind(Epoch::random().as_u64().cast_signed())
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar("SELECT id FROM spaces WHERE namespace = ? AND tenant IS ? AND role = ?")
        .bind(&namespace.name)
        .bind(&namespace.tenant)
        .bind(options::role_name(namespace.role))
        .fetch_one(connection)
        .await
}
