//! A private `postgres`.

use std::{
    io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{
    Error, PrivateServer, Result, ServerOptions,
    name::unique_name,
    probe, programs,
    server::{ServerKind, write_private},
    unprivileged,
};

/// A private `postgres` on a free loopback port, with a folder of its own.
///
/// The server ends and its folder is removed when the handle is dropped or the test process dies.
/// Postgres refuses to run as root, so for root it runs as the user `postgres`, or else `nobody`.
/// Without a password it trusts every client.
///
/// # Cost
/// A start takes about 0.5 s, most of it `initdb`.
///
/// ```no_run
/// # async fn example() -> terrace_testbed::Result<()> {
/// let postgres = terrace_testbed::Postgres::start().await?;
/// let url = postgres.create_database().await?;
/// postgres.read_only(true).await?;
/// # Ok(())
/// # }
/// ```
pub type Postgres = PrivateServer<PostgresKind>;

/// How a [`Postgres`] is to run.
pub type PostgresOptions = ServerOptions<PostgresKind>;

/// The kind of server that `postgres` is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresKind;

impl PrivateServer<PostgresKind> {
    /// Makes an empty database and returns its URL.
    ///
    /// # Errors
    /// [`Error::Sql`] if the server cannot be reached or refuses.
    pub async fn create_database(&self) -> Result<String> {
        let name = unique_name("db");
        let what = "connecting to make a database";
        let mut session = PgConnection::connect(&self.url()).await.map_err(Error::sql(what))?;
        create_database(&mut session, &name).await?;
        Ok(url_of(self.port(), self.options.password.as_deref(), &name))
    }

    /// Makes the whole server refuse writes, as a standby would, or accept them again. Open sessions
    /// follow with their next statement.
    ///
    /// # Errors
    /// [`Error::Sql`] if the server cannot be reached or refuses.
    pub async fn read_only(&self, on: bool) -> Result<()> {
        let what = "making postgres read-only or writable";
        let value = if on { "on" } else { "off" };
        let mut session = PgConnection::connect(&self.url()).await.map_err(Error::sql(what))?;
        let change = format!("alter system set default_transaction_read_only = {value}");
        session.execute(AssertSqlSafe(change)).await.map_err(Error::sql(what))?;
        session.execute("select pg_reload_conf()").await.map_err(Error::sql(what))?;
        // A new session shows the setting that the postmaster has read, and the same reload
        // notifies the open sessions.
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
}

impl ServerOptions<PostgresKind> {
    /// Adds one server setting, such as `max_connections`, `10`.
    #[must_use]
    pub fn setting(self, name: &str, value: &str) -> Self {
        self.with_setting(name, value)
    }
}

impl ServerKind for PostgresKind {
    const PROGRAM: &'static str = "postgres";
    const END_SIGNAL: &'static str = "QUIT";

    fn program() -> Result<PathBuf> {
        programs::postgres_program("postgres")
    }

    fn set_up(folder: &Path, options: &PostgresOptions) -> Result<Option<(&'static str, Command)>> {
        let mut initdb = unprivileged::command(&programs::postgres_program("initdb")?);
        initdb.arg("-D").arg(folder.join("data"));
        initdb.args(["--no-sync", "-U", "postgres", "-E", "UTF8", "--locale=C"]);
        let password_file = folder.join("password");
        match &options.password {
            Some(password) => {
                write_private(&password_file, password, "writing a password file")?;
                initdb.arg("--auth=scram-sha-256").arg("--pwfile").arg(&password_file);
            }
            None => {
                initdb.arg("--auth=trust");
            }
        }
        if let Some((user, group)) = unprivileged::other_user() {
            let what = "giving a folder to the user who runs postgres";
            chown(folder, Some(user), Some(group)).map_err(Error::io(what))?;
            if options.password.is_some() {
                chown(&password_file, Some(user), Some(group)).map_err(Error::io(what))?;
            }
        }
        Ok(Some(("initdb", initdb)))
    }

    fn command(program: &Path, folder: &Path, port: u16, options: &PostgresOptions) -> Command {
        let mut command = unprivileged::command(program);
        command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
        for (name, value) in settings(options) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
    }

    fn is_ready(port: u16) -> io::Result<bool> {
        probe::postgres(port)
    }

    fn url(port: u16, password: Option<&str>) -> String {
        url_of(port, password, "postgres")
    }
}

fn url_of(port: u16, password: Option<&str>, database: &str) -> String {
    let password = password.map(|password| format!(":{password}")).unwrap_or_default();
    format!("postgres://postgres{password}@127.0.0.1:{port}/{database}")
}

/// All settings of the server; a later one overrides an earlier one of the same name.
fn settings(options: &PostgresOptions) -> impl Iterator<Item = (&str, &str)> {
    const ALWAYS: [(&str, &str); 4] = [
        ("listen_addresses", "127.0.0.1"),
        // No socket file, since the length of its path is limited.
        ("unix_socket_directories", ""),
        ("max_connections", "300"),
        ("shared_buffers", "64MB"),
    ];
    const NOT_DURABLE: [(&str, &str); 3] =
        [("fsync", "off"), ("full_page_writes", "off"), ("max_wal_size", "128MB")];
    let not_durable = (!options.durable).then_some(NOT_DURABLE).into_iter().flatten();
    let own = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    ALWAYS.into_iter().chain(not_durable).chain(own)
}

/// Makes an empty database on the session's server.
pub(crate) async fn create_database(session: &mut PgConnection, name: &str) -> Result<()> {
    // Postgres copies a template only while it has no session, and template0 accepts none.
    let statement = format!("create database {name} template template0");
    let created = session.execute(AssertSqlSafe(statement)).await;
    created.map_err(Error::sql("creating a database for a test")).map(|_| ())
}
