//! A private sentinel.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    PrivateServer, Redis, Result, ServerOptions, probe, programs,
    server::{ServerKind, SetUpStep, write_private},
};

/// A private sentinel on a free loopback port, which is `redis-server --sentinel`.
///
/// It takes a primary for dead after half a second, and gives it its role back as a replica when it returns.
///
/// ```no_run
/// # async fn example() -> terrace_testbed::Result<()> {
/// use terrace_testbed::{Redis, Sentinel};
///
/// let primary = Redis::start().await?;
/// let replica = Redis::options().replica_of(&primary).start().await?;
/// let sentinels = Sentinel::watch(&primary, "main", 3).await?;
/// primary.kill9()?; // the sentinels make the replica the primary
/// # Ok(())
/// # }
/// ```
pub type Sentinel = PrivateServer<SentinelKind>;

/// How a [`Sentinel`] is to run.
pub type SentinelOptions = ServerOptions<SentinelKind>;

/// The kind of server that a sentinel is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SentinelKind;

impl Sentinel {
    /// Starts `count` sentinels that watch `primary` under the name `master`. More than half of them must agree
    /// on its death.
    ///
    /// # Errors
    /// As [`ServerOptions::start`].
    pub async fn watch(primary: &Redis, master: &str, count: usize) -> Result<Vec<Self>> {
        let mut sentinels = Vec::with_capacity(count);
        for _ in 0..count {
            sentinels.push(Self::options().master(master, primary.port(), count / 2 + 1).start().await?);
        }
        Ok(sentinels)
    }
}

impl ServerOptions<SentinelKind> {
    /// Watches the primary on loopback port `port`; `quorum` sentinels must agree on its death.
    #[must_use]
    pub fn master(self, name: &str, port: u16, quorum: usize) -> Self {
        self.config("sentinel monitor", &format!("{name} 127.0.0.1 {port} {quorum}"))
            .config("sentinel down-after-milliseconds", &format!("{name} 500"))
            .config("sentinel failover-timeout", &format!("{name} 3000"))
    }

    /// Adds one line to the configuration file.
    #[must_use]
    pub fn config(self, directive: &str, value: &str) -> Self {
        self.with_setting(directive, value)
    }
}

impl ServerKind for SentinelKind {
    const PROGRAM: &'static str = "redis-server --sentinel";
    const END_SIGNAL: &'static str = "KILL";

    fn program() -> Result<PathBuf> {
        programs::redis_server()
    }

    /// The sentinel itself rewrites this file.
    fn set_up(folder: &Path, options: &SentinelOptions) -> Result<Vec<SetUpStep>> {
        let mut lines = vec!["bind 127.0.0.1".to_owned(), format!("dir {}", folder.display())];
        lines.extend(options.password.iter().map(|password| format!("requirepass {password}")));
        lines.extend(options.settings.iter().map(|(directive, value)| format!("{directive} {value}")));
        write_private(&folder.join("sentinel.conf"), &(lines.join("\n") + "\n"), "writing sentinel.conf")?;
        Ok(Vec::new())
    }

    fn command(program: &Path, folder: &Path, port: u16, _options: &SentinelOptions) -> Command {
        let mut command = Command::new(program);
        command.arg(folder.join("sentinel.conf")).arg("--sentinel").args(["--port", &port.to_string()]);
        command
    }

    fn is_ready(port: u16) -> io::Result<bool> {
        probe::redis(port)
    }

    fn url(port: u16, password: Option<&str>) -> String {
        let user = password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{user}127.0.0.1:{port}")
    }
}
