//! Settings from the environment.

use std::{env, ffi::OsString};

use terrace_core::Result;

use super::{Config, MemoryConfig, PostgresConfig, RedisConfig, refuse};

/// Entries of the near tier, unless set.
const MEMORY_ENTRIES: u64 = 10_000;

impl Config {
    /// Reads the process's environment; the [module](super) lists the variables.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace_core::ErrorKind::Config) with the name of a variable whose
    /// value cannot be used, never with the value.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| env::var_os(name))
    }

    /// Reads the variables through `var`: for names with a prefix, or secrets kept elsewhere.
    ///
    /// # Errors
    /// As [`from_env`](Config::from_env).
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| match var(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(refuse(format!("{name} is not UTF-8"))),
        };
        let number = |name: &str| match text(name)?.map(|text| text.parse::<u64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(refuse(format!("{name} is not a whole number"))),
        };
        let consent = match text("REDIS_ALLOW_PLAINTEXT")?.as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => return Err(refuse("REDIS_ALLOW_PLAINTEXT is true or false")),
        };
        let mut config = Self {
            ttl_seconds: number("CACHE_TTL_SECONDS")?,
            memory: Some(MemoryConfig {
                entries: number("CACHE_MEMORY_ENTRIES")?.unwrap_or(MEMORY_ENTRIES),
                ttl_seconds: None,
            }),
            redis: text("REDIS_URL")?.map(|url| RedisConfig {
                url: url.into(),
                allow_plaintext: consent,
                ..RedisConfig::default()
            }),
            ..Self::default()
        };
        if let Some(url) = text("DATABASE_URL")? {
            config.set_database(url)?;
        }
        Ok(config)
    }

    fn set_database(&mut self, url: String) -> Result<()> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => {
                self.postgres = Some(PostgresConfig { url: url.into(), ..PostgresConfig::default() });
                Ok(())
            }
            _ => Err(refuse("DATABASE_URL has another scheme than postgres://")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config> {
        let vars = vars.to_vec();
        Config::from_vars(move |name| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn nothing_set_is_memory_alone() {
        let config = read(&[]).unwrap();
        assert_eq!(config.memory.as_ref().unwrap().entries, MEMORY_ENTRIES);
        assert_eq!((config.redis, config.postgres, config.ttl_seconds), (None, None, None));
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
            ("REDIS_ALLOW_PLAINTEXT", "secret"),
            ("DATABASE_URL", "mysql://user:secret@localhost"),
            ("DATABASE_URL", "secret"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(name) && !shown.contains("secret"), "{shown}");
        }
    }
}
