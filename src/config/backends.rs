//! Makes backends from their settings. A backend whose feature is not compiled in is an error that
//! names the feature.

use std::sync::Arc;

use terrace_core::{Backend, Result};

use super::{PostgresConfig, RedisConfig, SqliteConfig};

#[cfg(feature = "redis")]
pub(super) fn redis(config: &RedisConfig) -> Result<Arc<dyn Backend>> {
    let mut redis = terrace_tier_redis::Redis::builder(config.url.expose());
    if let Some(prefix) = &config.prefix {
        redis = redis.prefix(prefix);
    }
    if config.allow_plaintext {
        redis = redis.allow_plaintext();
    }
    Ok(Arc::new(redis.build()?))
}

#[cfg(not(feature = "redis"))]
pub(super) fn redis(_config: &RedisConfig) -> Result<Arc<dyn Backend>> {
    Err(not_compiled("redis"))
}

#[cfg(feature = "postgres")]
pub(super) fn postgres(config: &PostgresConfig) -> Result<Arc<dyn Backend>> {
    let mut postgres = terrace_tier_postgres::Postgres::builder(config.url.expose());
    if let Some(schema) = &config.schema {
        postgres = postgres.schema(schema);
    }
    if let Some(pool_size) = config.pool_size {
        postgres = postgres.pool_size(pool_size);
    }
    Ok(Arc::new(postgres.build()?))
}

#[cfg(not(feature = "postgres"))]
pub(super) fn postgres(_config: &PostgresConfig) -> Result<Arc<dyn Backend>> {
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
