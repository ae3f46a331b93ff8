//! The handle: one for a server, shared by many caches.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use sqlx::{ConnectOptions, PgPool, postgres::PgConnectOptions};
use terrace_tier::{Backend, Error, InvalidationLog, Namespace, Result, Tier};

use crate::{log::Log, pool::Pool, shared::Shared, space::NamespaceRow, tier::PostgresTier};

/// The largest encoded copy that is kept, unless set.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// Postgres as store of record or as expiring cache tier; its place in the chain says which.
///
/// Made once and shared by many caches; cloning is cheap. It connects lazily, so a server that is
/// away at start is a lost tier, not an error. The library makes its tables and functions in a
/// schema of its own (`terrace`) with the first call that needs them.
///
/// # Errors
/// A malformed URL or setting is [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) at once.
///
/// # Cost
/// A pool of 8 connections for all caches of the handle, and one more while its log is followed. A
/// pooler in between (PgBouncer) must give each a session of its own: settings are sent at its start,
/// and statements are prepared in it.
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

/// Settings of a [`Postgres`] handle.
#[must_use]
pub struct PostgresBuilder {
    options: Result<PgConnectOptions>,
    schema: String,
    pool_size: usize,
    statement_timeout: Duration,
    max_value_bytes: usize,
}

impl Postgres {
    /// The server of `url`: `postgres://user:password@host:port/database?sslmode=..`, with default
    /// settings.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a malformed URL.
    pub fn new(url: &str) -> Result<Self> {
        Self::builder(url).build()
    }

    /// The server of `url`, with settings.
    pub fn builder(url: &str) -> PostgresBuilder {
        PostgresBuilder {
            options: parse(url),
            schema: "terrace".to_owned(),
            pool_size: 8,
            statement_timeout: Duration::from_secs(5),
            max_value_bytes: MAX_VALUE_BYTES,
        }
    }

    /// The server of a pool that the application has already. Its sessions must run at READ
    /// COMMITTED, Postgres' default. Set `test_before_acquire(false)` on it: that test costs a quarter
    /// of the throughput; and an `acquire_timeout`, since sqlx's pool waits so long while a server
    /// refuses connections.
    ///
    /// # Cost
    /// A connection that the cache has used is held for 10 ms, in case that another statement follows,
    /// since giving it back is a trip to the server in sqlx's pool: at most a quarter of the pool, and
    /// none while the pool is exhausted.
    pub fn from_pool(pool: PgPool) -> Self {
        Self::over(Pool::given(pool), "terrace", MAX_VALUE_BYTES)
    }

    /// Makes the library's schema, or moves it forward, unless that is done. The first call of a cache
    /// does so by itself; this one is for what comes before any, such as a migration that calls
    /// `terrace.watch`.
    ///
    /// # Errors
    /// The server's, and [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a schema of a newer program.
    ///
    /// # Cost
    /// Two trips, where nothing is to be done.
    pub async fn prepare(&self) -> Result<()> {
        self.0.prepared().await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    fn over(pool: Pool, schema: &str, max_value_bytes: usize) -> Self {
        Self(Arc::new(Shared::new(pool, schema, max_value_bytes)))
    }
}

impl PostgresBuilder {
    /// The schema that the library makes and keeps its tables in; `terrace` by default.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The most connections; 8 by default.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// After this time the server ends a statement that nobody waits for any more; 5 s by default.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// The largest encoded value that is kept in the cache role; 1 MiB by default. A larger one
    /// would hold up the reads that share its round trips: it is [`ErrorKind::TooLarge`](terrace_tier::ErrorKind::TooLarge). Records
    /// have no such limit.
    pub fn max_value_bytes(mut self, max_value_bytes: usize) -> Self {
        self.max_value_bytes = max_value_bytes;
        self
    }

    /// The handle. No trip.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a malformed URL, an empty or overlong schema name, an empty pool.
    pub fn build(self) -> Result<Postgres> {
        let options = self.options?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.schema.is_empty() || self.schema.len() > 63 || !self.schema.chars().all(plain) {
            return Err(Error::config("a schema name has 1 to 63 letters, digits, _ and -"));
        }
        if self.pool_size == 0 || self.pool_size > 1000 {
            return Err(Error::config("the pool needs 1 to 1000 connections"));
        }
        let timeout_ms = self.statement_timeout.as_millis().clamp(1, i32::MAX as u128);
        let options = options
            .options([("statement_timeout", timeout_ms.to_string())])
            .options([
                // The statements rely on it: they look again at a row that they had to wait for.
                ("default_transaction_isolation", "read committed"),
                // Every statement goes by key; a plan made while a table was small must not scan it
                // when it has grown.
                ("enable_seqscan", "off"),
                ("jit", "off"),
            ])
            .disable_statement_logging();
        let pool = Pool::own(options, self.pool_size);
        Ok(Postgres::over(pool, &self.schema, self.max_value_bytes))
    }
}

impl Backend for Postgres {
    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        Some(Arc::new(Log(Arc::clone(&self.0))))
    }

    fn name(&self) -> &str {
        "postgres"
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        if space.name.contains('\0') {
            return Err(Error::config("a namespace in Postgres has no NUL"));
        }
        let claim = self.0.spaces.claim(space)?;
        let room = NamespaceRow::new(space.clone(), Arc::clone(&self.0), claim);
        Ok(Arc::new(PostgresTier::new(room)))
    }
}

/// Without the URL.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.0.schema).finish_non_exhaustive()
    }
}

/// Without the URL.
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

/// The causes of sqlx and url may show parts of the URL: they are left out.
fn parse(text: &str) -> Result<PgConnectOptions> {
    let malformed = || Error::config("not a Postgres URL: postgres://user:password@host:port/database");
    let mut url = url::Url::parse(text.trim()).map_err(|_| malformed())?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(malformed());
    }
    // sqlx logs the name and the value of a parameter that it does not know.
    let (known, unknown): (Vec<_>, Vec<_>) =
        url.query_pairs().into_owned().partition(|(name, _)| is_known(name));
    for (name, _) in &unknown {
        tracing::warn!(parameter = %name, "a parameter of the Postgres URL is not known and not used");
    }
    if !unknown.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(known);
    }
    PgConnectOptions::from_str(url.as_str()).map_err(|_| malformed())
}

fn is_known(parameter: &str) -> bool {
    matches!(
        parameter,
        "sslmode"
            | "ssl-mode"
            | "sslrootcert"
            | "ssl-root-cert"
            | "ssl-ca"
            | "sslcert"
            | "ssl-cert"
            | "sslkey"
            | "ssl-key"
            | "statement-cache-capacity"
            | "host"
            | "hostaddr"
            | "port"
            | "dbname"
            | "user"
            | "password"
            | "application_name"
            | "options"
    ) || (parameter.starts_with("options[") && parameter.ends_with(']'))
}
