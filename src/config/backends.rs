//! Makes backends from their settings. A backend whose feature is not compiled in is an error that
//! names the feature.

use std::sync::Arc;

use terrace_core::{Backend, Result};

use super::{
    PostgresConfig, RedisConfig, SqliteConfig,
    address::{PostgresAddress, RedisAddress},
};
#[cfg(any(feature = "redis", feature = "postgres"))]
use super::{Secret, SecretFile, address::Login};

#[cfg(feature = "redis")]
pub(super) fn redis(config: &RedisConfig, address: RedisAddress) -> Result<Arc<dyn Backend>> {
    let mut redis = terrace_tier_redis::Redis::builder(address.url.expose());
    let Login { user, password, file } = address.login;
    if let Some(user) = &user {
        redis = redis.username(user);
    }
    if let Some(password) = &password {
        redis = redis.password(password.expose());
    }
    if let Some((file, setting)) = file {
        redis = redis.credentials(file_credentials(user, file, setting));
    }
    let Login { user, password, .. } = address.sentinel_login;
    if let Some(user) = user {
        redis = redis.sentinel_username(user);
    }
    if let Some(password) = password {
        redis = redis.sentinel_password(password.expose());
    }
    if let Some(ca) = address.tls_ca {
        redis = redis.tls_ca(ca);
    }
    if let Some((certificate, key)) = address.tls_client {
        redis = redis.tls_client_certificate(certificate, key);
    }
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

/// Reads the password anew for each connection: a file that an orchestrator renews holds the new one. The file is
/// local and short, so that its reader does not need a thread of its own.
#[cfg(any(feature = "redis", feature = "postgres"))]
fn file_credentials(
    user: Option<String>,
    file: SecretFile,
    setting: &'static str,
) -> impl terrace_tier::CredentialsProvider {
    move || {
        let login = |password: &Secret| match &user {
            Some(user) => terrace_tier::Credentials::new(user, password.expose()),
            None => terrace_tier::Credentials::password(password.expose()),
        };
        let read = file.read(setting).map(|password| login(&password));
        std::future::ready(read.map_err(terrace_tier::BoxError::from))
    }
}

/// The error for a server on another host without TLS: it names the setting, and not the builder's method.
#[cfg(feature = "redis")]
const PLAINTEXT: &str = "redis.url (REDIS_URL) is a server on another host without TLS: use rediss://. Inside \
                         a network that you trust, as that of one compose file, allow it by \
                         REDIS_ALLOW_PLAINTEXT=true, or by allow_plaintext = true in [redis]";

#[cfg(not(feature = "redis"))]
pub(super) fn redis(_config: &RedisConfig, _address: RedisAddress) -> Result<Arc<dyn Backend>> {
    Err(not_compiled("redis"))
}

#[cfg(feature = "postgres")]
pub(super) fn postgres(config: &PostgresConfig, address: PostgresAddress) -> Result<Arc<dyn Backend>> {
    let mut postgres = terrace_tier_postgres::Postgres::builder(address.url.expose());
    if let Login { user, file: Some((file, setting)), .. } = address.login {
        postgres = postgres.credentials(file_credentials(user, file, setting));
    }
    if let Some(schema) = &config.schema {
        postgres = postgres.schema(schema);
    }
    if let Some(pool_size) = config.pool_size {
        postgres = postgres.pool_size(pool_size);
    }
    if config.logged_copies {
        postgres = postgres.logged_copies();
    }
    Ok(Arc::new(postgres.build()?))
}

#[cfg(not(feature = "postgres"))]
pub(super) fn postgres(_config: &PostgresConfig, _address: PostgresAddress) -> Result<Arc<dyn Backend>> {
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
