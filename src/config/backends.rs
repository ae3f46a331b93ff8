//! Makes backends from their settings. A backend whose feature is not compiled in is an error that
//! names the feature.

use std::sync::Arc;

use terrace_core::{Backend, Result};

use super::{PostgresConfig, RedisConfig, Secret, SqliteConfig};

#[cfg(feature = "redis")]
pub(super) fn redis(config: &RedisConfig, url: &Secret) -> Result<Arc<dyn Backend>> {
    let mut redis = terrace_tier_redis::Redis::builder(url.expose());
    if let Some(prefix) = &config.prefix {
        redis = redis.prefix(prefix);
    }
    if config.allow_plaintext {
        redis = redis.allow_plaintext();
    }
    let only_plaintext_is_wrong = || redis.clone().allow_plaintext().build().is_ok();
    match redis.clone().build() {
        Ok(redis) => Ok(Arc::new(redis)),
        Err(_) if only_plaintext_is_wrong() => Err(terrace_core::Error::config(PLAINTEXT)),
        Err(error) => Err(error),
    }
}

/// The error for a server on another host without TLS: it names the setting, and not the builder's method.
#[cfg(feature = "redis")]
const PLAINTEXT: &str = "redis.url (REDIS_URL) is a server on another host without TLS: use rediss://. Inside \
                         a network that you trust, as that of one compose file, allow it by \
                         REDIS_ALLOW_PLAINTEXT=true, or by allow_plaintext = true in [redis]";

#[cfg(not(feature = "redis"))]
pub(super) fn redis(_config: &RedisConfig, _url: &Secret) -> Result<Arc<dyn Backend>> {
    Err(not_compiled("redis"))
}

#[cfg(feature = "postgres")]
pub(super) fn postgres(config: &PostgresConfig, url: &Secret) -> Result<Arc<dyn Backend>> {
    let mut postgres = terrace_tier_postgres::Postgres::builder(url.expose());
    if let Some(schema) = &config.schema {
        postgres = postgres.schema(schema);
    }
    if let Some(pool_size) = config.pool_size {
        postgres = postgres.pool_size(pool_size);
    }
    Ok(Arc::new(postgres.build()?))
}

#[cfg(not(feature = "postgres"))]
pub(super) fn postgres(_config: &PostgresConfig, _url: &Secret) -> Result<Arc<dyn Backend>> {
    Err(not_compiled("postgres"))
}

/// Whether the path says that SQLite keeps everything in memory.
pub(super) fn is_in_memory(config: &SqliteConfig) -> bool {
    config.path.as_os_str() == ":memory:"
}

#[cfg(feature = "sqlite")]
pub(super) fn sqlite(config: &SqliteConfig) -> Result<Arc<dyn Backend>> {
    use terrace_tier_sqlite::Sqlite;
    Ok(Arc::new(if is_in_memory(config) { Sqlite::memory() } else { Sqlite::file(&config.path)? }))
}

#[cfg(not(feature = "sqlite"))]
pub(super) fn sqlite(_config: &SqliteConfig) -> Result<Arc<dyn Backend>> {
    Err(not_compiled("sqlite"))
}

#[cfg(not(all(feature = "redis", feature = "postgres", feature = "sqlite")))]
fn not_compiled(feature: &str) -> terrace_core::Error {
    terrace_core::Error::config(format!(
        "the configuration asks for {feature}: build terrace with its feature `{feature}`"
    ))
}
