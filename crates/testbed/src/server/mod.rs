//! A private server: one process with a folder, a port and a handle.

mod folder;
mod options;
mod process;
mod signals;
mod watchdog;

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

pub(crate) use folder::write_private;
pub use options::ServerOptions;
use process::ServerProcess;

use crate::{Error, Result};

/// A private server on a free loopback port, with a folder of its own.
///
/// [`Redis`](crate::Redis) and [`Postgres`](crate::Postgres) are the two kinds. The server ends and
/// its folder is removed when the handle is dropped or the test process dies. All calls that start
/// or wait for a process run on threads of their own and leave tokio's virtual time alone.
pub struct PrivateServer<K> {
    pub(crate) process: Arc<ServerProcess>,
    pub(crate) options: Arc<ServerOptions<K>>,
}

impl<K: ServerKind> PrivateServer<K> {
    /// Starts a server with the default options: it has no password and does not wait for the disk.
    /// A killed Redis then restarts empty; a killed Postgres keeps its data, since the operating
    /// system holds what it has written.
    ///
    /// # Errors
    /// As [`ServerOptions::start`].
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// Reserves a port and a folder and starts nothing: connections are refused until
    /// [`restart`](Self::restart).
    ///
    /// # Errors
    /// As [`ServerOptions::away`].
    pub async fn away() -> Result<Self> {
        Self::options().away().await
    }

    /// The default options, to change before the start.
    #[must_use]
    pub fn options() -> ServerOptions<K> {
        ServerOptions::new()
    }

    /// The URL for clients, with the password if there is one: `redis://[:password@]127.0.0.1:port`, or an
    /// ordinary role's own database (see [`Postgres`](crate::Postgres)).
    #[must_use]
    pub fn url(&self) -> String {
        K::url(self.port(), self.options.password.as_deref())
    }

    /// The loopback port, the same for the life of the handle.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// The process id of the server.
    ///
    /// # Errors
    /// [`Error::NotRunning`] while no server runs.
    pub fn pid(&self) -> Result<u32> {
        self.process.pid()
    }

    /// Kills the server and its child processes with SIGKILL and waits until they have ended. The
    /// port refuses connections until [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`Error::NotRunning`] if no server runs.
    pub fn kill9(&self) -> Result<()> {
        self.process.kill()
    }

    /// Stops the server and its child processes with SIGSTOP: open connections stay open, the
    /// operating system accepts new ones, and no request is answered.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if no server runs.
    pub fn pause(&self) -> Result<()> {
        self.process.pause()
    }

    /// Lets a paused server continue.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if no server runs.
    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    /// Kills the server if it runs, then starts it on the same port and folder and waits until it
    /// answers.
    ///
    /// # Errors
    /// As [`ServerOptions::start`].
    pub async fn restart(&self) -> Result<()> {
        let process = Arc::clone(&self.process);
        blocking(move || process.restart()).await
    }
}

/// The output leaves out the password.
impl<K> std::fmt::Debug for PrivateServer<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateServer").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Runs blocking work on a thread of its own. Tokio holds virtual time still while such work runs.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)
        .map_err(Error::io("running a server's thread"))?
}

/// A program that prepares a server's folder.
pub struct SetUpStep {
    /// Its name, for errors.
    pub name: &'static str,
    /// How to run it.
    pub command: Command,
    /// What it reads.
    pub input: Option<String>,
}

/// One kind of server, such as Redis.
pub trait ServerKind: Sized + Send + Sync + 'static {
    /// The name of the server program, for errors.
    const PROGRAM: &'static str;

    /// The name, without `SIG`, of the signal that ends the server at once and lets it release what
    /// it keeps outside its folder.
    const END_SIGNAL: &'static str;

    /// The path of the server program.
    ///
    /// # Errors
    /// [`Error::MissingProgram`](crate::Error::MissingProgram).
    fn program() -> Result<PathBuf>;

    /// Writes into `folder` the files that the server reads at its start. Returns the programs that must
    /// run once before the first start, in order.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::MissingProgram`](crate::Error::MissingProgram).
    fn set_up(folder: &Path, options: &ServerOptions<Self>) -> Result<Vec<SetUpStep>>;

    /// The command that runs `program` in the foreground.
    fn command(program: &Path, folder: &Path, port: u16, options: &ServerOptions<Self>) -> Command;

    /// Whether the server on this port is ready for clients.
    ///
    /// # Errors
    /// The socket's.
    fn is_ready(port: u16) -> io::Result<bool>;

    /// The URL for clients.
    fn url(port: u16, password: Option<&str>) -> String;
}
