//! The address and login of a server, out of the settings that give them.

mod login;
mod postgres;
mod redis;
mod url;

#[cfg(any(feature = "redis", feature = "postgres"))]
pub(super) use login::Login;
pub(super) use login::both;
pub(super) use postgres::{PostgresAddress, is_postgres};
pub(super) use redis::RedisAddress;
pub(super) use url::ServerUrl;
