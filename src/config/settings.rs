//! The settings of a stack, as TOML and serde see them.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use terrace_core::{Error, Result};
use terrace_policies::Ttl;

use super::{LevelConfig, Secret, StampedeConfig};

/// The settings of a stack; the [module](super) shows them as TOML.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long values live; five minutes unless set.
    pub ttl_seconds: Option<u64>,
    /// The part of a life, 0 to 1, up to which it is shortened at random.
    pub jitter: f64,
    /// How long absences are kept; not at all unless set.
    pub negative_ttl_seconds: Option<u64>,
    /// How long past its life a value is served while it is renewed.
    pub stale_while_revalidate_seconds: u64,
    /// How long past its life a value is served if renewing it fails.
    pub stale_if_error_seconds: u64,
    /// How consistent the caches are.
    pub level: LevelConfig,
    /// At level `bounded`, and there alone: how long before a read its value may have been superseded,
    /// at least 100.
    pub bound_ms: Option<u64>,
    /// How loads are shared.
    pub stampede: StampedeConfig,
    /// The near tier of each cache; off unless set.
    pub memory: Option<MemoryConfig>,
    /// The Redis tier.
    pub redis: Option<RedisConfig>,
    /// Postgres, as store or tier.
    pub postgres: Option<PostgresConfig>,
    /// SQLite, as store or tier; beside Postgres it is an error.
    pub sqlite: Option<SqliteConfig>,
}

/// The near tier of each cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// At most about so many entries; 0 is off.
    pub entries: u64,
    /// The longest life of a copy here.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// The Redis tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `[redis[s]://][user:password@]host[:port][/db]`.
    pub url: Secret,
    /// What all keys begin with.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Consent to a connection without TLS to a host that is not this one.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The longest life of a copy here.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// How long one request may take here.
    #[serde(default)]
    pub budget_ms: Option<u64>,
}

/// Postgres.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`.
    pub url: Secret,
    /// The schema that the library keeps its tables in.
    #[serde(default)]
    pub schema: Option<String>,
    /// The most connections.
    #[serde(default)]
    pub pool_size: Option<usize>,
    /// What it may be used as.
    #[serde(default)]
    pub role: DatabaseRole,
    /// The longest life of a copy here; records have none.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// How long one request may take here, in either role.
    #[serde(default)]
    pub budget_ms: Option<u64>,
}

/// SQLite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The file, made if it is not there, or `:memory:`, which keeps no records.
    pub path: PathBuf,
    /// What it may be used as.
    #[serde(default)]
    pub role: DatabaseRole,
    /// The longest life of a copy here; records have none.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// How long one request may take here, in either role.
    #[serde(default)]
    pub budget_ms: Option<u64>,
}

/// What a database may be used as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseRole {
    /// The store of [`records`](super::Stack::records), a tier of other caches.
    #[default]
    Both,
    /// For records alone.
    Store,
    /// For copies alone.
    Tier,
}

/// The time to live unless set: what a cache has without a policy.
const TTL_SECONDS: u64 = 300;

/// Entries of the near tier, where there is one and nothing is said of it.
const MEMORY_ENTRIES: u64 = 10_000;

impl Config {
    /// Memory alone: a near tier of 10,000 entries for each cache.
    pub fn in_memory() -> Self {
        let memory = MemoryConfig { entries: MEMORY_ENTRIES, ttl_seconds: None };
        Self { memory: Some(memory), ..Self::default() }
    }

    /// Memory before a SQLite file: durable, and no server.
    pub fn embedded(path: impl Into<PathBuf>) -> Self {
        let sqlite = SqliteConfig { path: path.into(), ..SqliteConfig::default() };
        Self { sqlite: Some(sqlite), ..Self::in_memory() }
    }

    /// The expiry policy of the stack's caches.
    pub(super) fn expiry(&self) -> Result<Ttl> {
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::config("jitter is a part of a life, from 0 to 1"));
        }
        let ttl = seconds(self.ttl_seconds)?.unwrap_or(Duration::from_secs(TTL_SECONDS));
        let negative = seconds(self.negative_ttl_seconds)?.unwrap_or_default();
        Ok(Ttl::of(ttl)
            .jitter(self.jitter)
            .negative(negative)
            .stale_while_revalidate(Duration::from_secs(self.stale_while_revalidate_seconds))
            .stale_if_error(Duration::from_secs(self.stale_if_error_seconds)))
    }
}

/// A time to live. None is 0: elsewhere that means for ever as often as it means not at all.
pub(super) fn seconds(seconds: Option<u64>) -> Result<Option<Duration>> {
    match seconds {
        Some(0) => {
            Err(Error::config("a time to live is at least one second; to cache nothing, leave the tiers out"))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// A time budget.
pub(super) fn millis(millis: Option<u64>) -> Result<Option<Duration>> {
    match millis {
        Some(0) => Err(Error::config("a time budget is at least one millisecond")),
        millis => Ok(millis.map(Duration::from_millis)),
    }
}
