//! A private `postgres`.

use std::{
    io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{
    Error, PrivateServer, Result, ServerOptions,
    name::unique_name,
    probe, programs,
    server::{ServerKind, SetUpStep, write_private},
    unprivileged,
};

/// A private `postgres` on a free loopback port, with a folder of its own.
///
/// Tests log in as an ordinary role, which owns its databases and is no superuser: on a managed server
/// nobody is. [`url`](PrivateServer::url) names a database of that role, and so does
/// [`create_database`](Self::create_database). [`superuser_url`](Self::superuser_url) is for what a test does
/// as an operator.
///
/// The server ends and its folder is removed when the handle is dropped or the test process dies.
/// Postgres refuses to run as root, so for root it runs as the user `postgres`, or else `nobody`.
/// Without a password it trusts every client.
///
/// # Cost
/// A start takes about 0.7 s, most of it `initdb`.
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

/// A standby replays what its primary wrote within this time, on a loaded machine too.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(60);

/// The settings that make a server a standby: its primary, and the folder of the primary.
const PRIMARY: &str = "primary_conninfo";
const COPY_OF: &str = "testbed.copy_of";

/// The role that tests log in as, and the name of its first database.
pub(crate) const OWNER: &str = "terrace_test_app";

impl PrivateServer<PostgresKind> {
    /// The URL of the database `postgres` as the superuser `postgres`.
    #[must_use]
    pub fn superuser_url(&self) -> String {
        self.superuser_url_of("postgres")
    }

    /// The URL of a database as the superuser `postgres`.
    #[must_use]
    pub fn superuser_url_of(&self, database: &str) -> String {
        url_of(self.port(), self.options.password.as_deref(), "postgres", database)
    }

    /// Starts a standby of this server: a copy that follows it, answers reads, and becomes a primary by
    /// [`promote`](Self::promote). It has the settings of this server.
    ///
    /// # Errors
    /// As [`ServerOptions::start`]; [`Error::Sql`] if this server refuses.
    pub async fn start_standby(&self) -> Result<Self> {
        let what = "copying a server for its standby";
        let password = self.options.password.as_deref();
        let password = password.map(|password| format!(" password={password}")).unwrap_or_default();
        let primary = format!("host=127.0.0.1 port={} user=postgres{password}", self.port());
        let data = self.process.folder().join("data");
        let options = PostgresOptions::clone(&self.options)
            .setting(PRIMARY, &primary)
            .setting(COPY_OF, &data.to_string_lossy());
        let mut session = PgConnection::connect(&self.superuser_url()).await.map_err(Error::sql(what))?;
        let (start, stop) = match session.server_version_num() {
            Some(version) if version < 150_000 => (
                "select pg_start_backup('standby', true, false)",
                "select labelfile from pg_stop_backup(false, false)",
            ),
            _ => ("select pg_backup_start('standby', true)", "select labelfile from pg_backup_stop(false)"),
        };
        session.execute(start).await.map_err(Error::sql(what))?;
        let standby = options.away().await?;
        let label: String =
            sqlx::query_scalar(stop).fetch_one(&mut session).await.map_err(Error::sql(what))?;
        let file = standby.process.folder().join("data/backup_label");
        write_private(&file, &label, what)?;
        if let Some((user, group)) = unprivileged::other_user() {
            chown(&file, Some(user), Some(group)).map_err(Error::io(what))?;
        }
        standby.restart().await?;
        Ok(standby)
    }

    /// Makes a standby a primary, and waits until it takes writes.
    ///
    /// # Errors
    /// [`Error::Sql`] if the server cannot be reached or is a primary already.
    pub async fn promote(&self) -> Result<()> {
        let what = "promoting a standby";
        let mut session = PgConnection::connect(&self.superuser_url()).await.map_err(Error::sql(what))?;
        session.execute("select pg_promote(true, 60)").await.map_err(Error::sql(what)).map(|_| ())
    }

    /// Waits until a standby has replayed what this server has written.
    ///
    /// # Errors
    /// [`Error::Sql`] if a server cannot be reached or refuses; [`Error::NotReady`] after a minute.
    pub async fn wait_for(&self, standby: &Self) -> Result<()> {
        let what = "waiting for a standby";
        let mut here = PgConnection::connect(&self.superuser_url()).await.map_err(Error::sql(what))?;
        let mut there = PgConnection::connect(&standby.superuser_url()).await.map_err(Error::sql(what))?;
        let written: String = sqlx::query_scalar("select pg_current_wal_lsn()::text")
            .fetch_one(&mut here)
            .await
            .map_err(Error::sql(what))?;
        let start = Instant::now();
        while start.elapsed() < REPLAY_TIMEOUT {
            let replayed: bool = sqlx::query_scalar("select pg_last_wal_replay_lsn() >= $1::pg_lsn")
                .bind(&written)
                .fetch_one(&mut there)
                .await
                .map_err(Error::sql(what))?;
            if replayed {
                return Ok(());
            }
        }
        Err(Error::NotReady { program: "the standby", waited: REPLAY_TIMEOUT, log: String::new() })
    }

    /// Makes an empty database of the ordinary role and returns its URL.
    ///
    /// # Errors
    /// [`Error::Sql`] if the server cannot be reached or refuses.
    pub async fn create_database(&self) -> Result<String> {
        let name = unique_name("db");
        let what = "connecting to make a database";
        let mut session = PgConnection::connect(&self.superuser_url()).await.map_err(Error::sql(what))?;
        create_database(&mut session, &name, Some(OWNER)).await?;
        Ok(url_of(self.port(), self.options.password.as_deref(), OWNER, &name))
    }

    /// Makes the whole server refuse writes, as a standby would, or accept them again. Open sessions
    /// follow with their next statement.
    ///
    /// # Errors
    /// [`Error::Sql`] if the server cannot be reached or refuses.
    pub async fn read_only(&self, on: bool) -> Result<()> {
        let what = "making postgres read-only or writable";
        let value = if on { "on" } else { "off" };
        let mut session = PgConnection::connect(&self.superuser_url()).await.map_err(Error::sql(what))?;
        let change = format!("alter system set default_transaction_read_only = {value}");
        session.execute(AssertSqlSafe(change)).await.map_err(Error::sql(what))?;
        session.execute("select pg_reload_conf()").await.map_err(Error::sql(what))?;
        // A new session shows the setting that the postmaster has read, and the same reload
        // notifies the open sessions.
        loop {
            let mut probe = PgConnection::connect(&self.superuser_url()).await.map_err(Error::sql(what))?;
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

    fn set_up(folder: &Path, options: &PostgresOptions) -> Result<Vec<SetUpStep>> {
        let setting = |name| options.settings.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        if let (Some(primary), Some(data)) = (setting(PRIMARY), setting(COPY_OF)) {
            return copy_of(primary, data, folder);
        }
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
        // The postmaster does not run yet, so no test can connect before its role is there.
        let mut single = unprivileged::command(&programs::postgres_program("postgres")?);
        single.arg("--single").arg("-D").arg(folder.join("data")).args(["-c", "fsync=off", "postgres"]);
        let password = options.password.as_deref().map(|password| format!(" password '{password}'"));
        let input = format!(
            "create role {OWNER} login{}\ncreate database {OWNER} owner {OWNER}\n",
            password.unwrap_or_default()
        );
        Ok(vec![
            SetUpStep { name: "initdb", command: initdb, input: None },
            SetUpStep { name: "postgres --single", command: single, input: Some(input) },
        ])
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
        url_of(port, password, OWNER, OWNER)
    }
}

/// Copies the files of the primary, which is in backup mode, into the folder of a standby. (The program
/// `pg_basebackup` does not come with every package of Postgres.)
fn copy_of(primary: &str, data: &str, folder: &Path) -> Result<Vec<SetUpStep>> {
    if let Some((user, group)) = unprivileged::other_user() {
        let what = "giving a folder to the user who runs postgres";
        chown(folder, Some(user), Some(group)).map_err(Error::io(what))?;
    }
    let mut copy = unprivileged::command(Path::new("/bin/sh"));
    // Files may go while they are copied, which is no failure: the log of the primary makes up for it.
    let script = "cp -a \"$0\" data; rm -f data/postmaster.pid data/postmaster.opts; \
                  cat >> data/postgresql.auto.conf && touch data/standby.signal";
    copy.args(["-c", script, data]);
    Ok(vec![SetUpStep { name: "cp", command: copy, input: Some(format!("{PRIMARY} = '{primary}'\n")) }])
}

fn url_of(port: u16, password: Option<&str>, user: &str, database: &str) -> String {
    let password = password.map(|password| format!(":{password}")).unwrap_or_default();
    format!("postgres://{user}{password}@127.0.0.1:{port}/{database}")
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
    // A standby has these settings in its own files.
    let own = options.settings.iter().filter(|(name, _)| name != PRIMARY && name != COPY_OF);
    let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
    ALWAYS.into_iter().chain(not_durable).chain(own)
}

/// Makes an empty database on the session's server, of `owner` or of the session's role.
pub(crate) async fn create_database(
    session: &mut PgConnection,
    name: &str,
    owner: Option<&str>,
) -> Result<()> {
    // Postgres copies a template only while it has no session, and template0 accepts none.
    let owner = owner.map(|owner| format!(" owner {owner}")).unwrap_or_default();
    let statement = format!("create database {name} template template0{owner}");
    let created = session.execute(AssertSqlSafe(statement)).await;
    created.map_err(Error::sql("creating a database for a test")).map(|_| ())
}

/// Makes the ordinary role on a server that is not the testbed's own, unless it is there. Returns whether
/// the session's role is a superuser; another role is ordinary itself, and makes its databases for itself.
pub(crate) async fn make_owner(session: &mut PgConnection, password: Option<&str>) -> Result<bool> {
    let what = "making the role of the tests";
    let superuser: bool = sqlx::query_scalar("select usesuper from pg_user where usename = current_user")
        .fetch_one(&mut *session)
        .await
        .map_err(Error::sql(what))?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(OWNER)
        .fetch_one(&mut *session)
        .await
        .map_err(Error::sql(what))?;
    if !superuser || exists {
        return Ok(superuser);
    }
    let password = password.map(|password| format!(" password '{}'", password.replace('\'', "''")));
    let make = format!("create role {OWNER} login{}", password.unwrap_or_default());
    match session.execute(AssertSqlSafe(make)).await {
        // Another test process has made it in the meantime.
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42710" | "23505")) => {
            Ok(true)
        }
        made => made.map_err(Error::sql(what)).map(|_| true),
    }
}
