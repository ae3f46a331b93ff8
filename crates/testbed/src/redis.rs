//! A private `redis-server`.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    PrivateServer, Result, ServerOptions, probe, programs,
    server::{ServerKind, SetUpStep, write_private},
};

/// A private `redis-server` on a free loopback port, with a folder of its own.
///
/// The server ends and its folder is removed when the handle is dropped or the test process dies.
///
/// # Cost
/// A start takes about 30 ms.
///
/// ```no_run
/// # async fn example() -> terrace_testbed::Result<()> {
/// let redis = terrace_testbed::Redis::start().await?;
/// println!("{}", redis.url());
/// redis.kill9()?;
/// redis.restart().await?; // the same port and folder
/// # Ok(())
/// # }
/// ```
pub type Redis = PrivateServer<RedisKind>;

/// How a [`Redis`] is to run.
pub type RedisOptions = ServerOptions<RedisKind>;

/// The kind of server that `redis-server` is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisKind;

impl ServerOptions<RedisKind> {
    /// Adds one line to the configuration file, such as `maxmemory`, `16mb`.
    #[must_use]
    pub fn config(self, directive: &str, value: &str) -> Self {
        self.with_setting(directive, value)
    }

    /// A replica of `primary`, which must have no password.
    #[must_use]
    pub fn replica_of(self, primary: &Redis) -> Self {
        // Without a diskless transfer, a replica waits for five seconds.
        let replica = self.config("replicaof", &format!("127.0.0.1 {}", primary.port()));
        replica.config("repl-diskless-sync-delay", "0")
    }
}

impl ServerKind for RedisKind {
    const PROGRAM: &'static str = "redis-server";
    const END_SIGNAL: &'static str = "KILL";

    fn program() -> Result<PathBuf> {
        programs::redis_server()
    }

    /// Writes a configuration file: a password among the arguments would show in the list of processes.
    fn set_up(folder: &Path, options: &RedisOptions) -> Result<Vec<SetUpStep>> {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.display()),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "maxclients 20000".to_owned(),
            // With `appendfsync always`, every write is in the file before its answer.
            format!("appendonly {}", if options.durable { "yes" } else { "no" }),
            "appendfsync always".to_owned(),
        ];
        lines.extend(options.password.iter().map(|password| format!("requirepass {password}")));
        lines.extend(options.settings.iter().map(|(directive, value)| format!("{directive} {value}")));
        write_private(&folder.join("redis.conf"), &(lines.join("\n") + "\n"), "writing redis.conf")?;
        Ok(Vec::new())
    }

    fn command(program: &Path, folder: &Path, port: u16, _options: &RedisOptions) -> Command {
        let mut command = Command::new(program);
        command.arg(folder.join("redis.conf")).args(["--port", &port.to_string()]);
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
