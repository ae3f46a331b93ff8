//! The settings that may hold a secret, each with one of its own.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use terrace::{
    Error,
    config::{Config, Stack},
};
use terrace_testbed::unique_name;

/// A part of every secret. The characters before it must be escaped in a URL, this part never is.
pub(crate) const MARK: &str = "5ecret";

/// The secret of a setting.
pub(crate) fn secret(setting: &str) -> String {
    format!("p@/{MARK}-{}", setting.to_lowercase().replace('_', "-"))
}

/// The same, as it stands in a URL.
pub(crate) fn in_url(setting: &str) -> String {
    secret(setting).replace('@', "%40").replace('/', "%2F")
}

/// Variables by name, and files for those that end in `_FILE`.
pub(crate) struct Variables {
    folder: PathBuf,
    pub(crate) values: BTreeMap<String, String>,
}

impl Variables {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), values: BTreeMap::new() }
    }

    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    /// The value in a file, whose path holds a secret as well: people write passwords there by mistake.
    pub(crate) fn set_file(self, name: &str, value: &str) -> Self {
        let path = self.folder.join(format!("{MARK}-{}", unique_name("file")));
        fs::write(&path, format!("{value}\n")).unwrap();
        let path = path.to_str().unwrap().to_owned();
        self.set(name, path)
    }

    pub(crate) fn over(&self, config: Config) -> Result<Config, Error> {
        config.with_vars(|name| self.values.get(name).map(OsString::from))
    }

    pub(crate) fn stack(&self) -> Result<(Config, Stack), Error> {
        let config = self.over(Config::in_memory())?;
        let stack = Stack::new(&config)?;
        Ok((config, stack))
    }
}

/// Each way to give one server its password, with a secret of its own.
pub(crate) fn ways(folder: &Path, redis: u16, postgres: u16) -> Vec<Variables> {
    let new = || Variables::new(folder);
    let redis_url = |name| format!("redis://:{}@127.0.0.1:{redis}", in_url(name));
    let postgres_url =
        |scheme, name| format!("{scheme}://postgres:{}@127.0.0.1:{postgres}/postgres", in_url(name));
    let redis_address = || new().set("REDIS_URL", format!("127.0.0.1:{redis}"));
    let postgres_address =
        || new().set("POSTGRES_HOST", "127.0.0.1").set("POSTGRES_PORT", postgres.to_string());
    vec![
        new().set("REDIS_URL", redis_url("REDIS_URL")),
        new().set_file("REDIS_URL_FILE", &redis_url("REDIS_URL_FILE")),
        redis_address().set("REDIS_PASSWORD", secret("REDIS_PASSWORD")),
        redis_address().set_file("REDIS_PASSWORD_FILE", &secret("REDIS_PASSWORD_FILE")),
        redis_address().set("REDIS_USERNAME", "app").set("REDIS_PASSWORD", secret("REDIS_USERNAME")),
        // The server is asked as a sentinel, and wants another password.
        new()
            .set("REDIS_URL", format!("redis+sentinel://:{}@127.0.0.1:{redis}/main", in_url("SENTINEL_URL")))
            .set("REDIS_SENTINEL_PASSWORD", secret("REDIS_SENTINEL_PASSWORD")),
        new()
            .set("REDIS_URL", format!("redis+sentinel://127.0.0.1:{redis}/main"))
            .set("REDIS_SENTINEL_USERNAME", "app")
            .set_file("REDIS_SENTINEL_PASSWORD_FILE", &secret("REDIS_SENTINEL_PASSWORD_FILE")),
        new().set("DATABASE_URL", postgres_url("postgres", "DATABASE_URL")),
        new().set("DATABASE_URL", postgres_url("postgresql+asyncpg", "DATABASE_URL") + "?ssl=disable"),
        new().set_file("DATABASE_URL_FILE", &postgres_url("postgres", "DATABASE_URL_FILE")),
        new().set("POSTGRES_CONNECTION", postgres_url("postgresql+psycopg", "POSTGRES_CONNECTION")),
        new().set_file("POSTGRES_CONNECTION_FILE", &postgres_url("postgres", "POSTGRES_CONNECTION_FILE")),
        postgres_address().set("POSTGRES_PASSWORD", secret("POSTGRES_PASSWORD")),
        postgres_address().set_file("POSTGRES_PASSWORD_FILE", &secret("POSTGRES_PASSWORD_FILE")),
    ]
}
