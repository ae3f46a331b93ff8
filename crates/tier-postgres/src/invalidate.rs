//! Invalidating within the application's own transaction.

use std::{fmt, hash::Hash};

use sqlx::PgConnection;
use terrace_core::{BorrowedKey, Cache, near::Near};
use terrace_tier::Result;

use crate::{
    Postgres,
    error::{During, typed},
    tenant::tenant_name,
};

impl Postgres {
    /// Says, in a transaction of the application's own, that it changes what `cache` has of `key`. The
    /// change and the word of it commit together or not at all, so that whatever happens to this
    /// process afterwards, whoever follows the log drops the copies. The cache follows it by
    /// [`changes`](terrace_tier::Builder::watch_origin), or has its store here.
    ///
    /// The log is read some 20 ms after the commit; [`Pending::committed`] does not wait for that.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](terrace_tier::ErrorKind::Key) for a key that no server can take;
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) where nobody but this process knows the
    /// cache; those of [`Postgres::prepare`], where the schema is not made yet: it is made on another
    /// connection, so a pool that has none left is [`ErrorKind::Timeout`](terrace_tier::ErrorKind::Timeout);
    /// those of a statement, after which the transaction can only be rolled back.
    ///
    /// # Cost
    /// One trip on the transaction's connection, and two more where this is the handle's first call.
    ///
    /// ```no_run
    /// # async fn example(
    /// #     postgres: terrace_tier_postgres::Postgres, pool: sqlx::PgPool,
    /// #     users: terrace_tier::Cache<i64, String, terrace_tier::NoNear>,
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
    ) -> Result<Pending<K, V, N>>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        N: Near<K, V>,
        Q: BorrowedKey<K> + ?Sized,
    {
        let name = cache.name_of(key)?;
        self.shared().prepared_beside(transaction).await?;
        sqlx::query(self.shared().statements.outbox.add.clone())
            .bind(&name.namespace)
            .bind(tenant_name(name.tenant.as_deref()))
            .bind(name.key.as_ref())
            .execute(transaction)
            .await
            // Nothing is decided before the commit, which is the caller's.
            .map_err(|error| typed(error, During::Read))?;
        Ok(Pending { cache: cache.clone(), key: key.to_key() })
    }
}

/// An invalidation whose transaction is under way. Dropped, it is left to those who follow the log.
pub struct Pending<K, V, N> {
    cache: Cache<K, V, N>,
    key: K,
}

impl<K, V, N> Pending<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// To be called once the transaction has committed: drops the copies now, so that a read of this
    /// process that begins afterwards sees the change.
    ///
    /// # Errors
    /// As [`Cache::invalidate`]; the copies that it could not drop are dropped by way of the log.
    pub async fn committed(self) -> Result<()> {
        self.cache.invalidate(&self.key).await.map(|_existed| ())
    }
}

/// Without the key, which may be personal data.
impl<K, V, N> fmt::Debug for Pending<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
