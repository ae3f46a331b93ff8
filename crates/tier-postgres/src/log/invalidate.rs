//! Invalidates a key in a transaction of the application.

use std::{fmt, hash::Hash, time::Duration};

use sqlx::PgConnection;
use terrace_core::{BorrowedKey, Cache, ExpectedChange, near::Near};
use terrace_tier::{Error, Result};

use crate::{
    connection::timeout::within,
    error::{NAME, Phase},
    handle::Postgres,
    namespace::tenant::tenant_name,
    sql::numbers::unsigned,
};

/// The longest wait for the state of a transaction. All connections of the pool may be taken, and the copies
/// have to be dropped.
const STATUS_TIMEOUT: Duration = Duration::from_millis(100);

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
    /// - [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a cache that does not follow the log of
    ///   Postgres: nothing would drop its copies.
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
        let added = self.add_change(transaction, cache, key).await;
        let (number, transaction) =
            added.map_err(|error| error.in_cache(cache.namespace()).during("invalidate_in"))?;
        let expected = cache.expect_change(number);
        let (postgres, cache) = (self.clone(), cache.clone());
        Ok(PendingInvalidation { postgres, cache, key: key.to_key(), number, transaction, expected })
    }

    /// Adds the row that says that the key has changed. Returns its number, and the id of the transaction.
    async fn add_change<K, V, N, Q>(
        &self,
        transaction: &mut PgConnection,
        cache: &Cache<K, V, N>,
        key: &Q,
    ) -> Result<(u64, String)>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        N: Near<K, V>,
        Q: BorrowedKey<K> + ?Sized,
    {
        if cache.truth_log() != Some(NAME) {
            return Err(follows_nothing());
        }
        let name = cache.name_of(key)?;
        self.shared().prepare_schema_in(transaction).await?;
        let added = sqlx::query_as::<_, (i64, String)>(self.shared().statements().outbox.add.clone())
            .bind(&name.namespace)
            .bind(tenant_name(name.tenant.as_deref()))
            .bind(name.key.as_ref())
            .fetch_one(transaction)
            .await;
        // An error leaves nothing unknown: only the caller's commit makes the row visible.
        let (number, transaction) = self.shared().typed(added, Phase::Read)?;
        Ok((unsigned(number), transaction))
    }

    /// Whether the transaction of this id has committed. Where the server does not say so, it may not have.
    async fn has_committed(&self, transaction: &str) -> bool {
        let shared = self.shared();
        let asked = async {
            let mut session = shared.pool.session().await?;
            let statement = shared.statements().outbox.has_committed.clone();
            let status = sqlx::query_scalar::<_, Option<bool>>(statement).bind(transaction);
            let status = status.fetch_one(session.connection()?).await;
            shared.typed(session.end(status), Phase::Read)
        };
        within(STATUS_TIMEOUT, asked).await.is_ok_and(|committed| committed == Some(true))
    }
}

fn follows_nothing() -> Error {
    let message = "the cache does not follow the log of Postgres, so no process would drop its copies; give it \
                   its store there, or `watch_origin(&postgres)`";
    Error::config(message).at_tier(NAME)
}

/// An invalidation whose transaction has not committed yet. If it is dropped, the followers of the log
/// still drop their copies after the commit.
pub struct PendingInvalidation<K, V, N> {
    postgres: Postgres,
    cache: Cache<K, V, N>,
    key: K,
    /// The number of the row in the outbox.
    number: u64,
    /// The id of the transaction, as text.
    transaction: String,
    /// The relay of this process waits for this invalidation, for a moment after the commit.
    expected: ExpectedChange,
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
    /// When the log reports the same change, this process drops no copy again that came after this call, so
    /// one change costs one load. If the relay runs in another process, it drops the copy in a shared tier
    /// once more.
    ///
    /// # Errors
    /// The errors of [`Cache::invalidate`]. The log still drops the copies that this call could not drop.
    ///
    /// # Cost
    /// The cost of [`Cache::invalidate`], and one trip that asks whether the transaction has committed: a call
    /// before the commit drops the copies, and the log drops them again.
    pub async fn committed(self) -> Result<()> {
        let Self { postgres, cache, key, number, transaction, expected } = self;
        let dropped = match postgres.has_committed(&transaction).await {
            true => cache.invalidate_change(&key, number).await,
            false => cache.invalidate(&key).await,
        };
        drop(expected);
        dropped.map(|_existed| ()).map_err(|error| error.during("committed"))
    }
}

/// Leaves out the key, which may be personal data.
impl<K, V, N> fmt::Debug for PendingInvalidation<K, V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingInvalidation").finish_non_exhaustive()
    }
}
