//! Reads settings from the environment.

use std::{env, ffi::OsString};

use terrace_core::{Error, Result};

use super::{Config, DatabaseRole, MemoryConfig, PostgresConfig, RedisConfig, SqliteConfig};

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
    /// value cannot be used, never with the value.
    pub fn with_env(self) -> Result<Self> {
        self.with_vars(|name| env::var_os(name))
    }

    /// These settings, changed by the variables that `var` returns by name: for variables with a prefix,
    /// or secrets that are kept elsewhere.
    ///
    /// # Errors
    /// As [`with_env`](Config::with_env).
    pub fn with_vars(mut self, var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| match var(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(Error::config(format!("{name} is not UTF-8"))),
        };
        let number = |name: &str| match text(name)?.map(|text| text.parse::<u64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(Error::config(format!("{name} is not a whole number"))),
        };
        if let Some(ttl_seconds) = number("CACHE_TTL_SECONDS")? {
            self.ttl_seconds = Some(ttl_seconds);
        }
        if let Some(entries) = number("CACHE_MEMORY_ENTRIES")? {
            self.memory = Some(MemoryConfig { entries, ..self.memory.unwrap_or_default() });
        }
        if let Some(url) = text("REDIS_URL")? {
            self.redis = Some(RedisConfig { url: url.into(), ..self.redis.unwrap_or_default() });
        }
        let allow_plaintext = text("REDIS_ALLOW_PLAINTEXT")?;
        if let Some(redis) = &mut self.redis {
            redis.allow_plaintext = match allow_plaintext.as_deref() {
                None => redis.allow_plaintext,
                Some("false" | "0") => false,
                Some("true" | "1") => true,
                Some(_) => return Err(Error::config("REDIS_ALLOW_PLAINTEXT is true or false")),
            };
        }
        match text("DATABASE_URL")? {
            Some(url) => self.with_database(url),
            None => Ok(self),
        }
    }

    /// These settings, with the database at `url` in place of any other. The role belongs to the place
    /// of the database in the stack, so the new database takes over the role of the old one.
    fn with_database(mut self, url: String) -> Result<Self> {
        let (postgres, sqlite) = (self.postgres.take(), self.sqlite.take());
        let role = match (&postgres, &sqlite) {
            (Some(postgres), _) => postgres.role,
            (None, Some(sqlite)) => sqlite.role,
            (None, None) => DatabaseRole::default(),
        };
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => {
                let postgres = postgres.unwrap_or(PostgresConfig { role, ..PostgresConfig::default() });
                self.postgres = Some(PostgresConfig { url: url.into(), ..postgres });
            }
            Some(("sqlite", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.contains('?') {
                    return Err(Error::config(
                        "DATABASE_URL is sqlite:PATH or sqlite::memory:, without options",
                    ));
                }
                let sqlite = sqlite.unwrap_or(SqliteConfig { role, ..SqliteConfig::default() });
                self.sqlite = Some(SqliteConfig { path: path.into(), ..sqlite });
            }
            _ => return Err(Error::config("DATABASE_URL has another scheme than postgres:// or sqlite:")),
        }
        Ok(self)
    }
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
        ])
        .unwrap();
        let redis = config.redis.unwrap();
        assert_eq!((redis.url.expose(), redis.allow_plaintext), ("cache:6379", true));
        assert_eq!(config.postgres.unwrap().url.expose(), "postgres://localhost/shop");
        assert_eq!((config.ttl_seconds, config.memory.unwrap().entries), (Some(7), 0));
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
        assert_eq!((redis.url.expose(), redis.prefix.as_deref()), ("b:2", Some("shop")));
        assert_eq!((postgres.url.expose(), postgres.role), ("postgres://db/shop", DatabaseRole::Tier));
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
