//! Invalidates a key in a transaction of the application.

use std::{fmt, hash::Hash};

use sqlx::PgConnection;
use terrace_core::{BorrowedKey, Cache, near::Near};
use terrace_tier::Result;

use crate::{error::Phase, handle::Postgres, namespace::tenant::tenant_name};

impl Postgres {
    /// Invalidates `key` of `cache` in a transaction of the application that changes the origin.
    ///
    /// The row that says so commits together with the change or not at all. So every process that follows
    /// the log drops its copies, even if this process ends. A cache follows the log if it has its store
    /// here, or by [`watch_origin`](terrace_core::Builder::watch_origin). The log is read some 20 ms after
    /// the commit; [`PendingInvalidation::committed`] drops the copies without that wait.
    ///
    /// # Errors
    /// - [`ErrorKind::Key`](terrace_tier::ErrorKind::Key) for a key that no tier accepts.
    /// - [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a cache that only this process knows.
    /// - The errors of [`Postgres::prepare`], if the schema is not made yet. It is made on another
    ///   connection: [`ErrorKind::Timeout`](terrace_tier::ErrorKind::Timeout) if the pool has none left.
    /// - The errors of a statement, after which the transaction can only be rolled back.
    ///
    /// # Cost
    /// One trip on the transaction's connection, and two more in the first call of the handle.
    ///
    /// ```no_run
    /// # async fn example(
    /// #     postgres: terrace_tier_postgres::Postgres, pool: sqlx::PgPool,
    /// #     users: terrace_core::Cache<i64, String, terrace_core::NoNear>,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = pool.begin().await?;
    /// sqlx::query("UPDATE users SET name = 'Ann' WHERE id = 7").execute(&mut *transaction).await?;
    /// let pending = postgres.invalidate_in(&mut transaction, &users, &7).await?;
    /// transaction.commit().await?;
    /// pending.committed().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn invalidate_in<K, V, N, Q>(
        &self,
        transaction: &mut PgConnection,
        cache: &Cache<K, V, N>,
        key: &Q,
    ) -> Result<PendingInvalidation<K, V, N>>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        N: Near<K, V>,
        Q: BorrowedKey<K> + ?Sized,
    {
        let name = cache.name_of(key)?;
        self.shared().prepare_schema_in(transaction).await?;
        let added = sqlx::query(self.shared().statements().outbox.add.clone())
            .bind(&name.namespace)
            .bind(tenant_name(name.tenant.as_deref()))
            .bind(name.key.as_ref())
            .execute(transaction)
            .await;
        // An error leaves nothing unknown: only the caller's commit makes the row visible.
        self.shared().typed(added, Phase::Read)?;
        Ok(PendingInvalidation { cache: cache.clone(), key: key.to_key() })
    }
}

/// An invalidation whose transaction has not committed yet. If it is dropped, the followers of the log
/// still drop their copies after the commit.
pub struct PendingInvalidation<K, V, N> {
    cache: Cache<K, V, N>,
    key: K,
}

impl<K, V, N> PendingInvalidation<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// Drops the copies now. Call it after the commit: a read of this process that begins after it
    /// returns sees the change.
    ///
    /// # Errors
    /// The errors of [`Cache::invalidate`]. The log still drops the copies that this call could not drop.
    ///
    /// # Cost
    /// The cost of [`Cache::invalidate`].
    pub async fn committed(self) -> Result<()> {
        self.cache.invalidate(&self.key).await.map(|_existed| ())
    }
}

/// Leaves out the key, which may be personal data.
impl<K, V, N> fmt::Debug for PendingInvalidation<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingInvalidation").finish_non_exhaustive()
    }
}
