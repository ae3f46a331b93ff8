//! The settings of a stack, as serde reads them.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use terrace_core::{Error, Result};
use terrace_policies::Ttl;

use super::{LevelConfig, Secret, SecretFile, StampedeConfig};

/// The settings of a stack; the [module](super) shows them as TOML.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long values live, in seconds; five minutes unless set.
    pub ttl_seconds: Option<u64>,
    /// The largest part of a life, from 0 to 1, that is cut off at random.
    pub jitter: f64,
    /// How long absences are kept, in seconds; they are not kept unless set.
    pub negative_ttl_seconds: Option<u64>,
    /// How many seconds past its life a value is served while it is renewed.
    pub stale_while_revalidate_seconds: u64,
    /// How many seconds past its life a value is served if its renewal fails.
    pub stale_if_error_seconds: u64,
    /// How consistent the caches are.
    pub level: LevelConfig,
    /// How many milliseconds before a read its value may have been superseded, at least 100. It must be
    /// set at level `bounded`, and at no other.
    pub bound_ms: Option<u64>,
    /// Which callers share one load of a key.
    pub stampede: StampedeConfig,
    /// How many loads of each cache may run at a time in one process; 128 unless set.
    pub max_loads: Option<usize>,
    /// How many milliseconds a caller waits for a load of a key whose stale value is served on errors; a
    /// second unless set.
    pub soft_timeout_ms: Option<u64>,
    /// The near tier of each cache; caches have none unless set.
    pub memory: Option<MemoryConfig>,
    /// The Redis tier.
    pub redis: Option<RedisConfig>,
    /// Postgres, as a store or a tier.
    pub postgres: Option<PostgresConfig>,
    /// SQLite, as a store or a tier. A stack with both Postgres and SQLite is an error.
    pub sqlite: Option<SqliteConfig>,
}

/// The near tier of each cache.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// The approximate maximum of entries; 10,000 unless set, and 0 turns the near tier off.
    pub entries: u64,
    /// The longest life of a copy in this tier, in seconds.
    pub ttl_seconds: Option<u64>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { entries: MEMORY_ENTRIES, ttl_seconds: None }
    }
}

/// The Redis tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `[redis[s]://][user:password@]host[:port][/db]`. It may come from the environment.
    pub url: Option<Secret>,
    /// The user of the login, if the URL has none.
    pub username: Option<String>,
    /// The password of the login, if the URL has none.
    pub password: Option<Secret>,
    /// The file with the password, in place of the password. It is read at each connect.
    pub password_file: Option<SecretFile>,
    /// The user of the login at the sentinels of a `redis+sentinel://` URL; they may have none.
    pub sentinel_username: Option<String>,
    /// The password of the login at the sentinels.
    pub sentinel_password: Option<Secret>,
    /// The file with the password of the login at the sentinels.
    pub sentinel_password_file: Option<SecretFile>,
    /// The file with the certificates of the authorities that are trusted, in PEM; the system's unless set.
    pub tls_ca_file: Option<SecretFile>,
    /// The file with the certificate that is shown to the server, in PEM.
    pub tls_cert_file: Option<SecretFile>,
    /// The file with the key of that certificate, in PEM.
    pub tls_key_file: Option<SecretFile>,
    /// The text before each key; `terrace` unless set.
    pub prefix: Option<String>,
    /// Whether a connection without TLS to another host is allowed.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The longest life of a copy in this tier, in seconds.
    pub ttl_seconds: Option<u64>,
    /// How many milliseconds one request may take.
    pub budget_ms: Option<u64>,
}

/// The Postgres database: a URL, or an address in parts. Parts complete a URL, and may not differ from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`; the scheme may name a driver, as in
    /// `postgresql+asyncpg://`.
    pub url: Option<Secret>,
    /// The host, several hosts with commas between them, or the folder of a socket file.
    pub host: Option<String>,
    /// The port; 5432 unless set.
    pub port: Option<u16>,
    /// The name of the database; that of the user unless set.
    pub database: Option<String>,
    /// The user of the login; `postgres` unless set.
    pub user: Option<String>,
    /// The password of the login, if the URL has none.
    pub password: Option<Secret>,
    /// The file with the password, in place of the password. It is read at each connect.
    pub password_file: Option<SecretFile>,
    /// The schema of the library's tables; `terrace` unless set.
    pub schema: Option<String>,
    /// The maximum of connections.
    pub pool_size: Option<usize>,
    /// Whether copies survive a crash of the server. It holds for the whole schema.
    #[serde(default)]
    pub logged_copies: bool,
    /// What the database may be used as.
    #[serde(default)]
    pub role: DatabaseRole,
    /// The longest life of a copy in this tier, in seconds. It does not concern records.
    pub ttl_seconds: Option<u64>,
    /// How many milliseconds one request may take, in either role.
    pub budget_ms: Option<u64>,
}

/// The SQLite database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The file, which is created if it is missing; or `:memory:`, which can keep no records.
    pub path: PathBuf,
    /// What the database may be used as.
    #[serde(default)]
    pub role: DatabaseRole,
    /// The longest life of a copy in this tier, in seconds. It does not concern records.
    pub ttl_seconds: Option<u64>,
    /// How many milliseconds one request may take, in either role.
    pub budget_ms: Option<u64>,
}

/// What a database may be used as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseRole {
    /// It is the store of [`records`](super::Stack::records), and a tier of other caches.
    #[default]
    Both,
    /// It keeps records only.
    Store,
    /// It keeps copies only.
    Tier,
}

/// The time to live unless set. A cache without an expiry policy has the same.
const TTL_SECONDS: u64 = 300;

/// Entries of a near tier unless set.
const MEMORY_ENTRIES: u64 = 10_000;

impl Config {
    /// Memory only: a near tier of 10,000 entries for each cache.
    pub fn in_memory() -> Self {
        Self { memory: Some(MemoryConfig::default()), ..Self::default() }
    }

    /// Memory before a SQLite file: records are durable, and no server is needed.
    pub fn embedded(path: impl Into<PathBuf>) -> Self {
        let sqlite = SqliteConfig { path: path.into(), ..SqliteConfig::default() };
        Self { sqlite: Some(sqlite), ..Self::in_memory() }
    }

    /// The expiry policy of the stack's caches.
    pub(super) fn expiry(&self) -> Result<Ttl> {
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::config(
                "jitter is a number from 0 to 1: the part of a life that may be cut off",
            ));
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

/// A time to live. Zero is refused: it means 'for ever' in some programs and 'not at all' in others.
pub(super) fn seconds(seconds: Option<u64>) -> Result<Option<Duration>> {
    match seconds {
        Some(0) => {
            Err(Error::config("a time to live is at least one second; to cache nothing, leave the tiers out"))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// A time budget. Zero is refused.
pub(super) fn millis(millis: Option<u64>) -> Result<Option<Duration>> {
    match millis {
        Some(0) => Err(Error::config("a time budget is at least one millisecond")),
        millis => Ok(millis.map(Duration::from_millis)),
    }
}
