//! Reads settings from the environment.

mod postgres;
mod redis;
mod vars;

use std::{env, ffi::OsString};

use terrace_core::{Error, Result};

use super::{
    Config, DatabaseRole, MemoryConfig, PostgresConfig, Secret, SqliteConfig,
    address::{ServerUrl, is_postgres},
};
use postgres::PostgresVars;
pub(super) use vars::Vars;

impl Config {
    /// The settings of [`Config::in_memory`], changed by the environment of the process.
    ///
    /// # Errors
    /// As [`with_env`](Config::with_env).
    pub fn from_env() -> Result<Self> {
        Self::in_memory().with_env()
    }

    /// These settings, changed by the environment of the process. The [module](super) lists the
    /// variables. So a file can describe the stack, and the environment can say where its servers are.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_core::ErrorKind::Config) with the name of a variable whose
    /// value cannot be used, or of two that contradict each other; never with a value.
    pub fn with_env(self) -> Result<Self> {
        self.with_vars(|name| env::var_os(name))
    }

    /// These settings, changed by the variables that `var` returns by name: for variables with a prefix,
    /// or secrets that are kept elsewhere.
    ///
    /// # Errors
    /// As [`with_env`](Config::with_env).
    pub fn with_vars(mut self, var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let vars = Vars(var);
        if let Some(ttl_seconds) = vars.number("CACHE_TTL_SECONDS")? {
            self.ttl_seconds = Some(ttl_seconds);
        }
        if let Some(max_loads) = vars.number("CACHE_MAX_LOADS")? {
            self.max_loads = Some(max_loads);
        }
        if let Some(entries) = vars.number("CACHE_MEMORY_ENTRIES")? {
            self.memory = Some(MemoryConfig { entries, ..self.memory.unwrap_or_default() });
        }
        self.redis = redis::changed(self.redis, &vars)?;
        let url = database_url(&vars)?;
        let parts = PostgresVars::read(&vars)?;
        self.with_database(url, parts)
    }

    /// These settings, with the database that the variables name in place of any other. The role belongs to
    /// the place of the database in the stack, so the new database takes over the role of the old one.
    fn with_database(mut self, url: Option<Secret>, parts: PostgresVars) -> Result<Self> {
        let (postgres, sqlite) = (self.postgres.take(), self.sqlite.take());
        let role = match (&postgres, &sqlite) {
            (Some(postgres), _) => postgres.role,
            (None, Some(sqlite)) => sqlite.role,
            (None, None) => DatabaseRole::default(),
        };
        match &url {
            Some(url) if !is_postgres(scheme(url)) => {
                if let Some(variable) = parts.first_set() {
                    return Err(Error::config(format!(
                        "DATABASE_URL names SQLite, and {variable} belongs to Postgres: leave one of them out"
                    )));
                }
                let sqlite = sqlite.unwrap_or(SqliteConfig { role, ..SqliteConfig::default() });
                self.sqlite = Some(SqliteConfig { path: sqlite_path(url)?.into(), ..sqlite });
            }
            _ if url.is_some() || parts.names_a_server() => {
                let postgres = postgres.unwrap_or(PostgresConfig { role, ..PostgresConfig::default() });
                self.postgres = Some(parts.change(postgres, url));
            }
            _ => {
                (self.postgres, self.sqlite) = (parts.change_rest(postgres)?, sqlite);
            }
        }
        Ok(self)
    }
}

/// The URL of the database, whose scheme is one that is known.
fn database_url<F: Fn(&str) -> Option<OsString>>(vars: &Vars<F>) -> Result<Option<Secret>> {
    let (any, postgres) = (vars.url("DATABASE_URL")?, vars.url("POSTGRES_CONNECTION")?);
    if any.as_ref().is_some_and(|url| !is_postgres(scheme(url)) && scheme(url) != "sqlite") {
        return Err(Error::config("DATABASE_URL has another scheme than postgres:// or sqlite:"));
    }
    if postgres.as_ref().is_some_and(|url| !is_postgres(scheme(url))) {
        return Err(Error::config(
            "POSTGRES_CONNECTION is no URL of the form postgres://user:password@host/database",
        ));
    }
    match (any, postgres) {
        (Some(one), Some(other)) if !name_the_same(&one, &other) => Err(Error::config(
            "DATABASE_URL and POSTGRES_CONNECTION name different databases: leave one of them out",
        )),
        (one, other) => Ok(one.or(other)),
    }
}

/// Whether two URLs differ in nothing but the driver and its parameters: programs that use two drivers have both.
fn name_the_same(one: &Secret, other: &Secret) -> bool {
    let parts = |url: &Secret| {
        let url = ServerUrl::split(url.expose(), "");
        (is_postgres(&url.scheme), url.hosts.to_ascii_lowercase(), url.user, url.password, url.path)
    };
    parts(one) == parts(other)
}

fn scheme(url: &Secret) -> &str {
    url.expose().split_once(':').map_or("", |(scheme, _)| scheme)
}

fn sqlite_path(url: &Secret) -> Result<&str> {
    let path = url.expose().split_once(':').map_or("", |(_, path)| path);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains('?') {
        return Err(Error::config("DATABASE_URL is sqlite:PATH or sqlite::memory:, without options"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings `config`, changed by these variables.
    fn with(config: Config, vars: &[(&str, &str)]) -> Result<Config> {
        config.with_vars(|name| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn read(vars: &[(&str, &str)]) -> Result<Config> {
        with(Config::in_memory(), vars)
    }

    #[test]
    fn nothing_set_is_memory_alone() {
        let config = read(&[]).unwrap();
        assert_eq!(config.memory.as_ref().unwrap().entries, 10_000);
        assert_eq!(config, Config::in_memory());
    }

    #[test]
    fn each_variable_has_its_place() {
        let config = read(&[
            ("REDIS_URL", " cache:6379 "),
            ("REDIS_ALLOW_PLAINTEXT", "true"),
            ("DATABASE_URL", "postgres://localhost/shop"),
            ("CACHE_TTL_SECONDS", "7"),
            ("CACHE_MEMORY_ENTRIES", "0"),
            ("CACHE_MAX_LOADS", "40"),
        ])
        .unwrap();
        let redis = config.redis.unwrap();
        assert_eq!((redis.url.unwrap().expose(), redis.allow_plaintext), ("cache:6379", true));
        assert_eq!(config.postgres.unwrap().url.unwrap().expose(), "postgres://localhost/shop");
        assert_eq!((config.ttl_seconds, config.memory.unwrap().entries), (Some(7), 0));
        assert_eq!(config.max_loads, Some(40));
    }

    #[test]
    fn a_sqlite_url_is_a_path() {
        for (url, path) in [
            ("sqlite:cache.db", "cache.db"),
            ("sqlite://data/cache.db", "data/cache.db"),
            ("sqlite:///data/cache.db", "/data/cache.db"),
            ("sqlite::memory:", ":memory:"),
            ("sqlite://:memory:", ":memory:"),
        ] {
            let config = read(&[("DATABASE_URL", url)]).unwrap();
            assert_eq!(config.sqlite.unwrap().path.to_str(), Some(path), "{url}");
        }
    }

    #[test]
    fn a_variable_replaces_what_the_settings_say_and_leaves_the_rest() {
        let file = "jitter = 0.5\n[redis]\nurl = 'a:1'\nprefix = 'shop'\n[sqlite]\npath = 'x'\nrole = 'tier'";
        let config = Config::from_toml(file).unwrap();
        let vars = [("REDIS_URL", "b:2"), ("DATABASE_URL", "postgres://db/shop")];
        let changed = with(config, &vars).unwrap();
        let (redis, postgres) = (changed.redis.unwrap(), changed.postgres.unwrap());
        assert_eq!((redis.url.unwrap().expose(), redis.prefix.as_deref()), ("b:2", Some("shop")));
        assert_eq!(
            (postgres.url.unwrap().expose(), postgres.role),
            ("postgres://db/shop", DatabaseRole::Tier)
        );
        assert_eq!((changed.sqlite, changed.jitter, changed.memory), (None, 0.5, None));
    }

    #[test]
    fn an_empty_variable_is_as_good_as_none() {
        let names = ["REDIS_URL", "DATABASE_URL", "CACHE_TTL_SECONDS", "CACHE_MEMORY_ENTRIES"];
        assert_eq!(read(&names.map(|name| (name, ""))).unwrap(), read(&[]).unwrap());
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_shown() {
        for (name, value) in [
            ("CACHE_TTL_SECONDS", "secret"),
            ("CACHE_TTL_SECONDS", "-1"),
            ("CACHE_MAX_LOADS", "secret"),
            ("CACHE_MEMORY_ENTRIES", "18446744073709551616"),
            ("DATABASE_URL", "mysql://user:secret@localhost"),
            ("DATABASE_URL", "secret"),
            ("DATABASE_URL", "sqlite:"),
            ("DATABASE_URL", "sqlite:secret?mode=ro"),
            ("REDIS_ALLOW_PLAINTEXT", "secret"),
        ] {
            let error = read(&[("REDIS_URL", "localhost"), (name, value)]).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(name) && !shown.contains("secret"), "{shown}");
        }
    }
}
