//! The stack: it makes each backend once, and gives builders of caches over them.

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use terrace_core::{Backend, Builder, Error, Level, Result, TierConfig, TierSettings, near::Near};
use terrace_policies::Ttl;
use terrace_tier::Counters;
use terrace_tier_memory::Memory;

use super::{
    Config, DatabaseRole, StampedeConfig, backends,
    settings::{millis, seconds},
};

/// The tiers that a configuration chose. All caches built on the stack share them.
///
/// It is a handle: clones share the backends.
///
/// # Cost
/// Making a stack connects to no server: that happens when a server is first used.
///
/// ```
/// use terrace::{Cache, config::Stack};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace::Result<()> {
/// let stack = Stack::from_toml("ttl_seconds = 60\n[memory]\nentries = 10000")?;
/// let pages: Cache<String, String> = stack.builder("pages").build()?;
/// let page = pages.get_or_load("/", || async { Ok::<_, std::io::Error>("home".to_owned()) }).await?;
/// assert_eq!(*page, "home");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stack {
    near_entries: u64,
    near_ttl: Option<Duration>,
    redis: Option<StackTier>,
    database: Option<Database>,
    expiry: Ttl,
    level: Level,
    stampede: StampedeConfig,
    max_loads: Option<usize>,
    soft_timeout: Option<Duration>,
}

/// A backend with the settings that it has in every cache of the stack.
#[derive(Clone)]
struct StackTier {
    backend: Arc<dyn Backend>,
    budget: Option<Duration>,
    ttl: Option<Duration>,
}

#[derive(Clone)]
struct Database {
    tier: StackTier,
    role: DatabaseRole,
    durable: bool,
}

impl Stack {
    /// The stack of these settings.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_core::ErrorKind::Config) for a stack without any tier, for
    /// settings and URLs that cannot work, and for a backend whose feature is not compiled in.
    /// No error shows a URL.
    pub fn new(config: &Config) -> Result<Self> {
        let (expiry, level) = (config.expiry()?, config.level.level(config.bound_ms)?);
        let memory = config.memory.as_ref();
        let near_ttl = seconds(memory.and_then(|memory| memory.ttl_seconds))?;
        let near_entries = memory.map_or(0, |memory| memory.entries);
        let redis = match &config.redis {
            Some(redis) => {
                let backend = backends::redis(redis, redis.address()?)?;
                Some(StackTier::new(backend, redis.ttl_seconds, redis.budget_ms)?)
            }
            None => None,
        };
        let database = Database::new(config)?;
        if near_entries == 0 && redis.is_none() && database.is_none() {
            return Err(Error::config(
                "a stack without any tier: configure memory, redis, postgres or sqlite",
            ));
        }
        if config.max_loads == Some(0) {
            return Err(Error::config("max_loads is at least 1: with 0 no loader could ever run"));
        }
        let (stampede, max_loads) = (config.stampede, config.max_loads);
        let soft_timeout = millis(config.soft_timeout_ms)?;
        Ok(Self { near_entries, near_ttl, redis, database, expiry, level, stampede, max_loads, soft_timeout })
    }

    /// The stack of a TOML text.
    ///
    /// # Errors
    /// As [`Config::from_toml`] and [`Stack::new`].
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::new(&Config::from_toml(text)?)
    }

    /// The stack of the process's environment.
    ///
    /// # Errors
    /// As [`Config::from_env`] and [`Stack::new`].
    pub fn from_env() -> Result<Self> {
        Self::new(&Config::from_env()?)
    }

    /// Begins a cache of values that live elsewhere, behind a loader: every tier of the stack keeps
    /// copies. The application may set more on the builder.
    pub fn builder<K, V>(&self, namespace: impl Into<String>) -> Builder<K, V, Memory<K, V>>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.builder_over(namespace, self.near())
    }

    /// Begins a cache as [`builder`](Self::builder) does, over this near tier in place of [`Memory`]. Of the
    /// table `[memory]` only the time to live counts then.
    pub fn builder_over<K, V, N>(&self, namespace: impl Into<String>, near: N) -> Builder<K, V, N>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
        N: Near<K, V>,
    {
        let builder = self.begin(namespace.into(), near);
        match &self.database {
            Some(database) if database.role != DatabaseRole::Store => {
                builder.tier(database.tier.config(database.tier.ttl))
            }
            _ => builder,
        }
    }

    /// As [`builder`](Self::builder), for a cache whose copies live at most `redis_ttl` in Redis, whatever the expiry
    /// policy says. The database may keep them longer, and then fills Redis again.
    pub fn builder_with_redis_ttl<K, V>(
        &self,
        namespace: impl Into<String>,
        redis_ttl: Duration,
    ) -> Builder<K, V, Memory<K, V>>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let mut stack = self.clone();
        if let Some(redis) = &mut stack.redis {
            redis.ttl = Some(redis.ttl.map_or(redis_ttl, |ttl| ttl.min(redis_ttl)));
        }
        stack.builder(namespace)
    }

    /// Begins a cache that keeps records in the stack's database.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_core::ErrorKind::Config) if the stack has no durable database, or if
    /// its database is for copies only.
    pub fn records<K, V>(&self, namespace: impl Into<String>) -> Result<Builder<K, V, Memory<K, V>>>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.records_over(namespace, self.near())
    }

    /// Begins a cache as [`records`](Self::records) does, over this near tier in place of [`Memory`].
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn records_over<K, V, N>(&self, namespace: impl Into<String>, near: N) -> Result<Builder<K, V, N>>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
        N: Near<K, V>,
    {
        let namespace = namespace.into();
        let why = match &self.database {
            // The tier's time to live is for copies: it does not concern records.
            Some(database) if database.durable && database.role != DatabaseRole::Tier => {
                return Ok(self.begin(namespace, near).store(database.tier.config(None)));
            }
            None => "this stack has no database: configure postgres or sqlite, or set DATABASE_URL",
            Some(database) if !database.durable => "SQLite in memory forgets them: give it a file",
            Some(_) => "the database of this stack has the role \"tier\", which is for copies only",
        };
        Err(Error::config(format!("`{namespace}` keeps records, but {why}")))
    }

    /// Counters with the name `group` that all processes of the application share: in Redis if the stack has it, else in
    /// its database. A stack of memory alone has none.
    ///
    /// # Cost
    /// No trip.
    pub fn counters(&self, group: &str) -> Option<Arc<dyn Counters>> {
        let database = self.database.as_ref().map(|database| &database.tier);
        self.redis.as_ref().or(database).and_then(|tier| tier.backend.counters(group))
    }

    /// The stack with each backend passed through `wrap`, which may count its calls or make them fail. The
    /// backends keep their names. Caches that were built before are not affected.
    #[must_use]
    pub fn wrap_backends(mut self, mut wrap: impl FnMut(Arc<dyn Backend>) -> Arc<dyn Backend>) -> Self {
        let database = self.database.as_mut().map(|database| &mut database.tier);
        for tier in self.redis.as_mut().into_iter().chain(database) {
            tier.backend = wrap(Arc::clone(&tier.backend));
        }
        self
    }

    /// The near tier that the configuration asks for.
    fn near<K, V>(&self) -> Memory<K, V>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        match self.near_entries {
            0 => Memory::off(),
            entries => Memory::entries(entries),
        }
    }

    /// A builder with the tiers that are nearer than the database.
    fn begin<K, V, N>(&self, namespace: String, near: N) -> Builder<K, V, N>
    where
        K: Clone + Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
        N: Near<K, V>,
    {
        let builder = Builder::new(namespace, near).expire(self.expiry);
        let mut builder = builder.level(self.level).stampede(self.stampede);
        if let Some(ttl) = self.near_ttl {
            builder = builder.near_ttl(ttl);
        }
        if let Some(max) = self.max_loads {
            builder = builder.max_loads(max);
        }
        if let Some(timeout) = self.soft_timeout {
            builder = builder.soft_timeout(timeout);
        }
        match &self.redis {
            Some(redis) => builder.tier(redis.config(redis.ttl)),
            None => builder,
        }
    }
}

impl Database {
    fn new(config: &Config) -> Result<Option<Self>> {
        match (&config.postgres, &config.sqlite) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Error::config("a stack has one database: postgres or sqlite, not both"))
            }
            (Some(postgres), None) => {
                let backend = backends::postgres(postgres, postgres.address()?)?;
                let tier = StackTier::new(backend, postgres.ttl_seconds, postgres.budget_ms)?;
                Ok(Some(Self { tier, role: postgres.role, durable: true }))
            }
            (None, Some(sqlite)) => {
                let tier = StackTier::new(backends::sqlite(sqlite)?, sqlite.ttl_seconds, sqlite.budget_ms)?;
                Ok(Some(Self { tier, role: sqlite.role, durable: !backends::is_in_memory(sqlite) }))
            }
        }
    }
}

impl StackTier {
    fn new(backend: Arc<dyn Backend>, ttl_seconds: Option<u64>, budget_ms: Option<u64>) -> Result<Self> {
        Ok(Self { backend, budget: millis(budget_ms)?, ttl: seconds(ttl_seconds)? })
    }

    fn config(&self, ttl: Option<Duration>) -> TierConfig {
        let mut config = TierConfig::from(Arc::clone(&self.backend));
        if let Some(budget) = self.budget {
            config = config.budget(budget);
        }
        match ttl {
            Some(ttl) => config.ttl(ttl),
            None => config,
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("near_entries", &self.near_entries)
            .field("redis", &self.redis.is_some())
            .field("database", &self.database.as_ref().map(|database| database.tier.backend.name()))
            .field("expiry", &self.expiry)
            .field("level", &self.level)
            .field("stampede", &self.stampede)
            .finish()
    }
}
