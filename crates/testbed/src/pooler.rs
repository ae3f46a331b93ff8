//! A private `pgbouncer` before a private `postgres`.

use std::{
    io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use terrace_server_programs::find;

use crate::{
    Error, Postgres, PrivateServer, Result, ServerOptions,
    postgres::OWNER,
    probe,
    server::{ServerKind, SetUpStep, write_private},
    unprivileged,
};

/// A private `pgbouncer` on a free loopback port.
///
/// Few machines have it, so a test that needs it asks [`PgBouncer::is_installed`](PrivateServer::is_installed)
/// first, and says that it is left out.
pub type PgBouncer = PrivateServer<PgBouncerKind>;

/// The kind of server that `pgbouncer` is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PgBouncerKind;

impl PrivateServer<PgBouncerKind> {
    /// Whether the program is on this machine.
    #[must_use]
    pub fn is_installed() -> bool {
        find("pgbouncer").is_some()
    }

    /// A pooler before `postgres`, which trusts every client, in the mode `session` or `transaction`.
    #[must_use]
    pub fn before(postgres: &Postgres, pool_mode: &str) -> ServerOptions<PgBouncerKind> {
        Self::options()
            .with_setting("pool_mode", pool_mode)
            .with_setting("server", &postgres.port().to_string())
    }

    /// The URL of the superuser's database through the pooler.
    #[must_use]
    pub fn superuser_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port())
    }

    /// The URL that leads through the pooler to the database of `url`.
    #[must_use]
    pub fn url_of(&self, url: &str) -> String {
        let database = url.rsplit_once('/').map_or("", |(_, database)| database);
        format!("postgres://{OWNER}@127.0.0.1:{}/{database}", self.port())
    }
}

impl ServerOptions<PgBouncerKind> {
    /// Adds one setting, such as `default_pool_size`, `2`.
    #[must_use]
    pub fn pooler_setting(self, name: &str, value: &str) -> Self {
        self.with_setting(name, value)
    }
}

impl ServerKind for PgBouncerKind {
    const PROGRAM: &'static str = "pgbouncer";
    const END_SIGNAL: &'static str = "TERM";

    fn program() -> Result<PathBuf> {
        find("pgbouncer").ok_or(Error::MissingProgram {
            program: "pgbouncer",
            install: "PgBouncer 1.18 or newer (Debian/Ubuntu: `apt-get install pgbouncer`)",
        })
    }

    fn set_up(folder: &Path, _options: &ServerOptions<Self>) -> Result<Vec<SetUpStep>> {
        let users = folder.join("users.txt");
        write_private(&users, &format!("\"{OWNER}\" \"\"\n\"postgres\" \"\"\n"), "writing users.txt")?;
        if let Some((user, group)) = unprivileged::other_user() {
            for path in [folder, &users] {
                let what = "giving a folder to the user who runs pgbouncer";
                chown(path, Some(user), Some(group)).map_err(Error::io(what))?;
            }
        }
        Ok(Vec::new())
    }

    fn command(program: &Path, folder: &Path, port: u16, options: &ServerOptions<Self>) -> Command {
        let setting = |name: &str| options.settings.iter().find(|(other, _)| other == name);
        let server = setting("server").map_or("", |(_, port)| port);
        let mut lines = vec![
            "[databases]".to_owned(),
            format!("* = host=127.0.0.1 port={server}"),
            "[pgbouncer]".to_owned(),
            "listen_addr = 127.0.0.1".to_owned(),
            format!("listen_port = {port}"),
            "unix_socket_dir =".to_owned(),
            "auth_type = trust".to_owned(),
            format!("auth_file = {}", folder.join("users.txt").display()),
            "max_client_conn = 200".to_owned(),
        ];
        let others = options.settings.iter().filter(|(name, _)| name != "server");
        lines.extend(others.map(|(name, value)| format!("{name} = {value}")));
        // Without this file the program ends at once and says so.
        let file = folder.join("pgbouncer.ini");
        let _written = std::fs::write(&file, lines.join("\n") + "\n");
        let mut command = unprivileged::command(program);
        command.arg(file);
        command
    }

    fn is_ready(port: u16) -> io::Result<bool> {
        probe::postgres(port)
    }

    fn url(port: u16, _password: Option<&str>) -> String {
        format!("postgres://{OWNER}@127.0.0.1:{port}/{OWNER}")
    }
}
