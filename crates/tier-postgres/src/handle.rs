//! The handle of a server, which many caches share.

use std::{fmt, sync::Arc, time::Duration};

use sqlx::PgPool;
use terrace_tier::{Backend, Counters, CredentialsProvider, Error, InvalidationLog, Namespace, Result, Tier};

use crate::{
    connection::{
        address::{self, Address},
        dial::Dialer,
        pool::Pool,
        shared::Shared,
    },
    counters::PostgresCounters,
    error::NAME,
    log::Log,
    namespace::NamespaceRow,
    sql::script,
    tier::PostgresTier,
};

/// The default limit for an encoded copy.
const MAX_VALUE_BYTES: usize = 1 << 20;

const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Postgres as the store of record or as an expiring cache tier: the handle of one server.
///
/// Its place in a cache's chain decides the role. Many caches share one handle, and a clone is cheap. The
/// handle connects with the first call, so a server that is away at the start is a lost tier, not an
/// error. The first call also makes the library's tables and functions, in a schema of their own
/// (`terrace`).
///
/// # Errors
/// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) at once for a malformed URL or setting.
///
/// # Cost
/// All caches of the handle share a pool of 8 connections, whichever runtimes use it. One more is open while a cache follows the
/// log. A pooler in between (PgBouncer) must work by sessions (`pool_mode = session`): the handle sets
/// settings at the start of a session, and prepares statements in it.
///
/// A call is one statement, or two for a read that takes a lease. Above four single reads at a time further ones
/// share statements, and so do single writes: at most 1,000 reads, or 256 writes and 1 MiB, in each of at most
/// three statements. A larger record has a statement of its own. Each write is decided and answered alone. A
/// statement with one that the server refuses, or with a row that another transaction has locked for more than
/// a quarter of the budget (at most 100 ms), is rolled back, and each of its writes is sent alone.
///
/// ```
/// # fn example() -> terrace_tier::Result<()> {
/// let postgres = terrace_tier_postgres::Postgres::new("postgres://app:secret@localhost/app")?;
/// assert!(!format!("{postgres:?}").contains("secret"));
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[derive(Clone)]
pub struct Postgres(Arc<Shared>);

/// The settings of a [`Postgres`] handle.
///
/// ```
/// # fn example() -> terrace_tier::Result<()> {
/// use std::time::Duration;
/// use terrace_tier_postgres::Postgres;
///
/// let postgres = Postgres::builder("postgres://app:secret@localhost/app")
///     .schema("app_cache")
///     .pool_size(16)
///     .statement_timeout(Duration::from_secs(2))
///     .build()?;
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[must_use]
pub struct PostgresBuilder {
    address: Result<Address>,
    provider: Option<Arc<dyn CredentialsProvider>>,
    schema: String,
    pool_size: usize,
    statement_timeout: Duration,
    max_value_bytes: usize,
    logged_copies: bool,
}

impl Postgres {
    /// A handle with default settings for the server of `url`:
    /// `postgres://user:password@host:port/database?sslmode=..`.
    ///
    /// A URL may name several servers: `postgres://user:password@one:5432,two:5433/database`. The handle
    /// uses the one that is the primary. A standby is never used, since it answers from the past. When the
    /// primary becomes a standby or takes no more writes, the handle looks for the new one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a malformed URL.
    pub fn new(url: &str) -> Result<Self> {
        Self::builder(url).build()
    }

    /// A builder for a handle of the server of `url`.
    pub fn builder(url: &str) -> PostgresBuilder {
        PostgresBuilder {
            address: address::parse(url),
            provider: None,
            schema: "terrace".to_owned(),
            pool_size: 8,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            max_value_bytes: MAX_VALUE_BYTES,
            logged_copies: false,
        }
    }

    /// A handle over a pool that the application made.
    ///
    /// - Its sessions must run at READ COMMITTED, the default of Postgres.
    /// - It belongs to the runtime in which it was made: sqlx keeps its connections there. A handle with a pool of
    ///   its own serves several runtimes.
    /// - Set `test_before_acquire(false)` on it: the test costs a quarter of the throughput.
    /// - Set an `acquire_timeout` on it: sqlx's pool waits that long while a server refuses connections.
    ///
    /// # Cost
    /// The handle holds a connection for 10 ms after its statement, because its return is a trip to the
    /// server in sqlx's pool and another statement may follow. It holds at most a quarter of the pool,
    /// and none while the pool is exhausted.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), sqlx::Error> {
    /// use std::time::Duration;
    ///
    /// let pool = sqlx::postgres::PgPoolOptions::new()
    ///     .test_before_acquire(false)
    ///     .acquire_timeout(Duration::from_secs(2))
    ///     .connect("postgres://app:secret@localhost/app")
    ///     .await?;
    /// let postgres = terrace_tier_postgres::Postgres::from_pool(pool);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_pool(pool: PgPool) -> Self {
        let options = pool.connect_options();
        let address = Address { hosts: vec![options.as_ref().clone()], passwords: Vec::new() };
        let dialer = Dialer::new(address, settings(DEFAULT_STATEMENT_TIMEOUT), None);
        Self(Arc::new(Shared::new(Pool::application(pool, dialer), "terrace", MAX_VALUE_BYTES, false)))
    }

    /// Makes or upgrades the library's schema. The first call of a cache does this too. Call it where no
    /// cache has run yet, for example before a migration that calls `terrace.watch`.
    ///
    /// # Errors
    /// The errors of the server, and [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a schema
    /// that a newer program made.
    ///
    /// # Cost
    /// Two trips for a schema that is current. None after the first call of the handle.
    pub async fn prepare(&self) -> Result<()> {
        self.0.prepare_schema().await
    }

    /// A script of SQL that makes the library's schema, for a database in which the application itself may
    /// not make one. It runs in one transaction, in psql or in a tool for migrations. The role that runs it
    /// owns the schema, and then lets the application's role in by `SELECT terrace.grant_use_to('the role')`.
    ///
    /// It makes a schema where there is none. An older schema is upgraded by [`prepare`](Self::prepare).
    ///
    /// # Cost
    /// No trip.
    ///
    /// ```
    /// # fn example() -> terrace_tier::Result<()> {
    /// let postgres = terrace_tier_postgres::Postgres::new("postgres://localhost/app")?;
    /// assert!(postgres.schema_sql().contains("CREATE SCHEMA"));
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn schema_sql(&self) -> String {
        script::whole(&self.0.schema)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl PostgresBuilder {
    /// The schema of the library's tables and functions; `terrace` by default.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Asks `provider` for the login of each new connection, in place of the one in the URL: for passwords and
    /// tokens that live for minutes. A connection keeps the login that it was opened with, for 30 minutes at
    /// most.
    ///
    /// ```
    /// # fn example() -> terrace_tier::Result<()> {
    /// use terrace_tier::{BoxError, Credentials};
    ///
    /// async fn token() -> Result<Credentials, BoxError> {
    ///     Ok(Credentials::new("app", "a token that was signed a moment ago"))
    /// }
    ///
    /// let postgres =
    ///     terrace_tier_postgres::Postgres::builder("postgres://localhost/app").credentials(token).build()?;
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn credentials(mut self, provider: impl CredentialsProvider) -> Self {
        self.provider = Some(Arc::new(provider));
        self
    }

    /// The most connections of the pool, from 1 to 1000; 8 by default.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// The time after which the server cancels a statement; 5 s by default. A caller waits no longer than
    /// its own budget.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// The limit for an encoded value in the cache role, in bytes; 1 MiB by default. A larger value would
    /// delay the reads that share its round trip, so it is
    /// [`ErrorKind::TooLarge`](terrace_tier::ErrorKind::TooLarge). Records have no such limit.
    pub fn max_value_bytes(mut self, max_value_bytes: usize) -> Self {
        self.max_value_bytes = max_value_bytes;
        self
    }

    /// Lets copies survive a crash of the server. Without this setting a crash empties their table, and they are loaded
    /// again: choose it for copies that are dear to make, such as embeddings.
    ///
    /// The setting is one of the schema: the first handle with it makes the table of copies a logged one, and it stays
    /// so. Caches whose copies need not survive belong into another [`schema`](Self::schema). The role must own the
    /// schema, or its owner must run `ALTER TABLE terrace.cache_entries SET LOGGED` first.
    ///
    /// # Cost
    /// Each change of a copy, a lease too, waits for the server's disk, as one of a record does. The first handle rewrites
    /// the table, and other users of it wait meanwhile.
    pub fn logged_copies(mut self) -> Self {
        self.logged_copies = true;
        self
    }

    /// Makes the handle.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a malformed URL, for a schema name that
    /// is not 1 to 63 ASCII letters, digits, `_` and `-`, and for a pool that is not of 1 to 1000
    /// connections.
    ///
    /// # Cost
    /// No trip.
    pub fn build(self) -> Result<Postgres> {
        let address = self.address?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.schema.is_empty() || self.schema.len() > 63 || !self.schema.chars().all(plain) {
            return Err(Error::config("a schema name has 1 to 63 letters, digits, _ and -"));
        }
        if self.pool_size == 0 || self.pool_size > 1000 {
            return Err(Error::config("the pool needs 1 to 1000 connections"));
        }
        let mut settings = settings(self.statement_timeout);
        if self.logged_copies {
            // A crash must not lose an invalidation and keep the copy.
            settings.push_str("SET synchronous_commit = 'on'; ");
        }
        let dialer = Dialer::new(address, settings, self.provider);
        let pool = Pool::own(dialer, self.pool_size);
        Ok(Postgres(Arc::new(Shared::new(pool, &self.schema, self.max_value_bytes, self.logged_copies))))
    }
}

/// The statements that each new session runs. They are no parameters of the connection, because a pooler
/// refuses such parameters, or forgets them.
fn settings(statement_timeout: Duration) -> String {
    let timeout_ms = statement_timeout.as_millis().clamp(1, i32::MAX as u128);
    // The statements need READ COMMITTED: after waiting for a row they read its new version. Every one of
    // them uses an index, and a plan made for a small table must not scan the table when it has grown. The
    // pool closes its idle sessions itself. (Postgres 13 has no setting for them.)
    format!(
        "SET statement_timeout = {timeout_ms}; SET default_transaction_isolation = 'read committed'; \
         SET enable_seqscan = off; SET jit = off; \
         SELECT set_config('idle_session_timeout', '0', false) \
         WHERE current_setting('idle_session_timeout', true) IS NOT NULL; "
    )
}

impl Backend for Postgres {
    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        Some(Arc::new(Log(Arc::clone(&self.0))))
    }

    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        if namespace.name.contains('\0') {
            return Err(Error::config("the name of a namespace in Postgres cannot contain NUL"));
        }
        let guard = self.0.namespaces.claim(namespace)?;
        let row = NamespaceRow::new(namespace.clone(), Arc::clone(&self.0), guard);
        Ok(Arc::new(PostgresTier::new(row)))
    }

    fn counters(&self, group: &str) -> Option<Arc<dyn Counters>> {
        Some(Arc::new(PostgresCounters { shared: Arc::clone(&self.0), group: group.to_owned() }))
    }
}

/// Leaves out the URL, which may hold a password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.0.schema).finish_non_exhaustive()
    }
}

/// Leaves out the URL, which may hold a password.
impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBuilder")
            .field("schema", &self.schema)
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .field("max_value_bytes", &self.max_value_bytes)
            .finish_non_exhaustive()
    }
}
