//! A private `postgres`.

use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::name::unique_name;
use crate::server::{Kind, Server, blocking, restart};
use crate::{Error, Result, programs, ready};

/// A private `postgres` on a free loopback port with a folder of its own.
///
/// It ends, and its folder goes, when the handle is dropped or the process dies.
/// Starting takes about 0.5 s, most of it `initdb`. Postgres refuses to run as
/// root; for root it runs as the user `postgres`, or else `nobody`.
///
/// ```no_run
/// # async fn example() -> terrace_testbed::Result<()> {
/// let postgres = terrace_testbed::Postgres::start().await?;
/// let url = postgres.create_database().await?;
/// postgres.read_only(true).await?;
/// # Ok(())
/// # }
/// ```
pub struct Postgres {
    server: Arc<Server>,
    password: Option<String>,
}

/// How a [`Postgres`] is to run.
#[derive(Clone, Default)]
pub struct PostgresOptions {
    password: Option<String>,
    durable: bool,
    settings: Vec<(String, String)>,
}

impl Postgres {
    /// Starts one that trusts every client and does not wait for the disk. Its
    /// data outlives a killed process all the same: the system holds it.
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
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// The URL of the database `postgres`, as its superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The loopback port, the same for the life of the handle.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The process id of the postmaster.
    ///
    /// # Errors
    /// [`Error::NotRunning`] while no server runs.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid()
    }

    /// Kills the server and all its sessions with SIGKILL and waits until it has
    /// gone. Its port refuses connections until [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`Error::NotRunning`] if no server runs.
    pub fn kill9(&self) -> Result<()> {
        self.server.kill()
    }

    /// Stops the server and all its sessions with SIGSTOP: connections stay, and
    /// nothing is answered.
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

    /// Kills the server if it runs, then starts it on the same port and folder
    /// and waits until it has recovered.
    pub async fn restart(&self) -> Result<()> {
        restart(&self.server).await
    }

    /// Makes an empty database and gives its URL.
    pub async fn create_database(&self) -> Result<String> {
        let name = unique_name("db");
        let what = "connecting to make a database";
        let mut session = PgConnection::connect(&self.url()).await.map_err(Error::sql(what))?;
        create_database(&mut session, &name).await?;
        Ok(self.url_of(&name))
    }

    /// Makes the whole server refuse writes, as a standby would, or take them
    /// again; open sessions follow with their next statement.
    pub async fn read_only(&self, on: bool) -> Result<()> {
        let what = "making postgres read-only or writable";
        let value = if on { "on" } else { "off" };
        let mut session = PgConnection::connect(&self.url()).await.map_err(Error::sql(what))?;
        let change = format!("alter system set default_transaction_read_only = {value}");
        session.execute(AssertSqlSafe(change)).await.map_err(Error::sql(what))?;
        session.execute("select pg_reload_conf()").await.map_err(Error::sql(what))?;
        // A new session shows what the postmaster has read; the others were told
        // by the same reload.
        loop {
            let mut probe = PgConnection::connect(&self.url()).await.map_err(Error::sql(what))?;
            let seen: String = sqlx::query_scalar("show default_transaction_read_only")
                .fetch_one(&mut probe)
                .await
                .map_err(Error::sql(what))?;
            if seen == value {
                return Ok(());
            }
        }
    }

    fn url_of(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://postgres{password}@127.0.0.1:{}/{database}", self.port())
    }
}

/// Without the password.
impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("server", &self.server).finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// Clients must give this password: letters and digits, for it stands in a URL as it is.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Every commit waits for the disk, as in production.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// One more server setting, such as `max_connections`, `10`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the data folder, starts the server and waits until it takes sessions.
    ///
    /// # Errors
    /// [`Error::MissingProgram`] if Postgres is not installed; [`Error::LeaseEnd`] or
    /// [`Error::NotReady`] with its output if it does not come up.
    pub async fn start(self) -> Result<Postgres> {
        blocking(move || {
            let postgres = self.prepare()?;
            postgres.server.start()?;
            Ok(postgres)
        })
        .await
    }

    /// As [`Postgres::away`], with these options.
    pub async fn away(self) -> Result<Postgres> {
        blocking(move || self.prepare()).await
    }

    fn prepare(self) -> Result<Postgres> {
        let initdb = programs::postgres_program("initdb")?;
        let program = programs::postgres_program("postgres")?;
        let arguments = self.arguments();
        let server = Server::away(Kind {
            program: "postgres",
            command: Box::new(move |folder, port| {
                let mut command = unprivileged(&program);
                command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
                command.args(&arguments);
                command
            }),
            ready: ready::postgres,
            end_signal: "QUIT",
            on_disk: self.durable,
        })?;
        self.make_data_folder(&initdb, &server)?;
        Ok(Postgres { server: Arc::new(server), password: self.password })
    }

    fn make_data_folder(&self, initdb: &Path, server: &Server) -> Result<()> {
        let folder = server.folder();
        let mut command = unprivileged(initdb);
        command.arg("-D").arg(folder.join("data"));
        command.args(["--no-sync", "-U", "postgres", "-E", "UTF8", "--locale=C"]);
        let password_file = folder.join("password");
        match &self.password {
            Some(password) => {
                write_secret(&password_file, password)?;
                command.arg("--auth=scram-sha-256").arg("--pwfile").arg(&password_file);
            }
            None => {
                command.arg("--auth=trust");
            }
        }
        if let Some((user, group)) = other_user() {
            let what = "giving a folder to the user who runs postgres";
            chown(folder, Some(user), Some(group)).map_err(Error::io(what))?;
            if self.password.is_some() {
                chown(&password_file, Some(user), Some(group)).map_err(Error::io(what))?;
            }
        }
        server.prepare("initdb", &mut command)
    }

    fn arguments(&self) -> Vec<String> {
        let mut settings = vec![
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
            // No socket file: its path would have a length limit.
            ("unix_socket_directories".to_owned(), String::new()),
            ("max_connections".to_owned(), "300".to_owned()),
            ("shared_buffers".to_owned(), "64MB".to_owned()),
        ];
        if !self.durable {
            settings.push(("fsync".to_owned(), "off".to_owned()));
            settings.push(("full_page_writes".to_owned(), "off".to_owned()));
            settings.push(("max_wal_size".to_owned(), "128MB".to_owned()));
        }
        settings.extend(self.settings.iter().cloned());
        settings.into_iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
    }
}

/// Makes an empty database on the session's server.
pub(crate) async fn create_database(session: &mut PgConnection, name: &str) -> Result<()> {
    // template0 takes no sessions, so that nobody can be in the way.
    let statement = format!("create database {name} template template0");
    let created = session.execute(AssertSqlSafe(statement)).await;
    created.map_err(Error::sql("creating a database for a test")).map(|_| ())
}

/// A command that runs as somebody else where this process is root, without the
/// caller's PG variables.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
    command
}

/// User and group to run postgres as, if this process is root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(user_ids(&users, "postgres").or_else(|| user_ids(&users, "nobody")).unwrap_or((65534, 65534)))
}

fn user_ids(passwd: &str, user: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> =
        passwd.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(user))?.collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let what = "writing a password file";
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io(what))?;
    std::io::Write::write_all(&mut file, secret.as_bytes()).map_err(Error::io(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_the_whole_user_name() {
        let passwd = "postgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/var:/bin/bash\n";
        assert_eq!(user_ids(passwd, "postgres"), Some((101, 104)));
        assert_eq!(user_ids(passwd, "nobody"), None);
    }
}
