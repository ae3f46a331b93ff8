//! A private `redis-server`.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::server::{Kind, Server, blocking, restart};
use crate::{Error, Result, programs, ready};

/// A private `redis-server` on a free loopback port with a folder of its own.
///
/// It ends, and its folder goes, when the handle is dropped or the process dies.
/// Starting takes about 30 ms.
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
pub struct Redis {
    server: Arc<Server>,
    password: Option<String>,
}

/// How a [`Redis`] is to run.
#[derive(Clone, Default)]
pub struct RedisOptions {
    password: Option<String>,
    durable: bool,
    config: Vec<(String, String)>,
}

impl Redis {
    /// Starts one without a password that keeps its data in memory alone: a
    /// restart begins empty.
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// Reserves port and folder, with nothing there: connections are refused
    /// until [`restart`](Self::restart).
    pub async fn away() -> Result<Self> {
        Self::options().away().await
    }

    /// Options, to change before the start.
    #[must_use]
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// `redis://[:password@]127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        let user = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{user}127.0.0.1:{}", self.port())
    }

    /// The loopback port, the same for the life of the handle.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The process id.
    ///
    /// # Errors
    /// [`Error::NotRunning`] while no server runs.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid()
    }

    /// Kills the server with SIGKILL and waits until it has gone. Its port
    /// refuses connections until [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`Error::NotRunning`] if no server runs.
    pub fn kill9(&self) -> Result<()> {
        self.server.kill()
    }

    /// Stops the server with SIGSTOP: it keeps its connections, the system takes
    /// new ones in its name, and nothing is answered.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if no server runs.
    pub fn pause(&self) -> Result<()> {
        self.server.pause()
    }

    /// Lets a stopped server go on.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if no server runs.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }

    /// Kills the server if it runs, then starts it on the same port and folder.
    pub async fn restart(&self) -> Result<()> {
        restart(&self.server).await
    }
}

/// Without the password.
impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("server", &self.server).finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// Clients must give this password: letters and digits, for it stands in a
    /// URL and in a configuration file as it is.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Keeps the data over a kill: every write is in the append-only file before its answer.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// One more line of the configuration file, such as `maxmemory`, `16mb`.
    #[must_use]
    pub fn config(mut self, directive: &str, value: &str) -> Self {
        self.config.push((directive.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// [`Error::MissingProgram`] if `redis-server` is not installed;
    /// [`Error::LeaseEnd`] or [`Error::NotReady`] with its output if it does not come up.
    pub async fn start(self) -> Result<Redis> {
        blocking(move || {
            let redis = self.prepare()?;
            redis.server.start()?;
            Ok(redis)
        })
        .await
    }

    /// As [`Redis::away`], with these options.
    pub async fn away(self) -> Result<Redis> {
        blocking(move || self.prepare()).await
    }

    fn prepare(self) -> Result<Redis> {
        let program = programs::redis_server()?;
        let server = Server::away(Kind {
            program: "redis-server",
            command: Box::new(move |folder, port| {
                let mut command = Command::new(&program);
                command.arg(folder.join("redis.conf")).args(["--port", &port.to_string()]);
                command
            }),
            ready: ready::redis,
            end_signal: "KILL",
            on_disk: self.durable,
        })?;
        self.write_config(server.folder())?;
        Ok(Redis { server: Arc::new(server), password: self.password })
    }

    /// A file, not arguments: a password would show in the list of processes.
    fn write_config(&self, folder: &Path) -> Result<()> {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.display()),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "maxclients 20000".to_owned(),
            format!("appendonly {}", if self.durable { "yes" } else { "no" }),
            "appendfsync always".to_owned(),
        ];
        lines.extend(self.password.iter().map(|password| format!("requirepass {password}")));
        lines.extend(self.config.iter().map(|(directive, value)| format!("{directive} {value}")));
        let what = "writing redis.conf";
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join("redis.conf"))
            .map_err(Error::io(what))?;
        std::io::Write::write_all(&mut file, (lines.join("\n") + "\n").as_bytes()).map_err(Error::io(what))
    }
}
