//! The versions of servers, as the servers report them.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use sqlx::{Connection, PgConnection, Row};

use crate::{Error, PgBouncerKind, PrivateServer, Result, postgres::PostgresKind, probe, redis::RedisKind};

/// The longest answer to INFO that is read.
const MAX_INFO_BYTES: u64 = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(5);

impl PrivateServer<RedisKind> {
    /// The name and version that the server reports: `redis 7.0.15`, `valkey 9.1.2`.
    ///
    /// # Errors
    /// [`Error::Io`] if the server cannot be reached, or asks for a password.
    pub async fn version(&self) -> Result<String> {
        let port = self.port();
        let asked = tokio::task::spawn_blocking(move || info(port)).await.map_err(io::Error::other);
        asked.flatten().and_then(|info| of_info(&info)).map_err(Error::io("asking redis for its version"))
    }
}

impl PrivateServer<PostgresKind> {
    /// The version that the server reports: `postgres 15.18`.
    ///
    /// # Errors
    /// [`Error::Sql`] if the server cannot be reached.
    pub async fn version(&self) -> Result<String> {
        let what = "asking postgres for its version";
        let mut session = PgConnection::connect(&self.url()).await.map_err(Error::sql(what))?;
        let version: String = sqlx::query_scalar("show server_version")
            .fetch_one(&mut session)
            .await
            .map_err(Error::sql(what))?;
        Ok(format!("postgres {}", version.split(' ').next().unwrap_or_default()))
    }
}

impl PrivateServer<PgBouncerKind> {
    /// The version that the pooler reports: `pgbouncer 1.18.0`.
    ///
    /// # Errors
    /// [`Error::Sql`] if the pooler cannot be reached, or does not count the user `postgres` to its
    /// administrators.
    pub async fn version(&self) -> Result<String> {
        let what = "asking pgbouncer for its version";
        let console = format!("postgres://postgres@127.0.0.1:{}/pgbouncer", self.port());
        let mut session = PgConnection::connect(&console).await.map_err(Error::sql(what))?;
        // The console knows no prepared statements.
        let row = sqlx::raw_sql("SHOW VERSION").fetch_one(&mut session).await.map_err(Error::sql(what))?;
        let version: String = row.try_get(0).map_err(Error::sql(what))?;
        Ok(version.to_lowercase())
    }
}

fn info(port: u16) -> io::Result<String> {
    let mut socket = probe::connect(port)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    // The server closes the connection after QUIT, so that the end of the answer is the end of the stream.
    socket.write_all(b"INFO server\r\nQUIT\r\n")?;
    let mut text = String::new();
    socket.take(MAX_INFO_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Valkey says `redis_version:7.2.4` to old clients, and its own version in another line.
fn of_info(info: &str) -> io::Result<String> {
    let value = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    match (value("valkey_version"), value("redis_version")) {
        (Some(version), _) => Ok(format!("valkey {version}")),
        (None, Some(version)) => Ok(format!("redis {version}")),
        (None, None) => Err(io::Error::other("its answer to INFO has no version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valkey_is_known_by_its_own_version() {
        let redis = "$90\r\n# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(of_info(redis).unwrap(), "redis 7.0.15");
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n";
        assert_eq!(of_info(valkey).unwrap(), "valkey 9.1.2");
        assert!(of_info("-NOAUTH Authentication required.\r\n").is_err());
    }
}
