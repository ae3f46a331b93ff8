//! What the environment says about Postgres, beside a URL.

use std::ffi::OsString;

use terrace_core::{Error, Result};

use super::vars::{PasswordVar, Vars, set_password};
use crate::config::{PostgresConfig, Secret, address::ServerUrl};

/// The variables `POSTGRES_*` that give an address in parts.
pub(super) struct PostgresVars {
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    password: Option<PasswordVar>,
}

impl PostgresVars {
    pub(super) fn read<F: Fn(&str) -> Option<OsString>>(vars: &Vars<F>) -> Result<Self> {
        // Kubernetes sets POSTGRES_PORT=tcp://10.0.0.1:5432 in each container, where a service is named
        // `postgres`. That is no setting of this program.
        let is_of_kubernetes = vars.text("POSTGRES_PORT")?.is_some_and(|port| port.starts_with("tcp://"));
        Ok(Self {
            host: vars.text("POSTGRES_HOST")?,
            port: if is_of_kubernetes { None } else { vars.number("POSTGRES_PORT")? },
            database: vars.text("POSTGRES_DB")?,
            user: vars.text("POSTGRES_USER")?,
            password: vars.password("POSTGRES_PASSWORD")?,
        })
    }

    pub(super) fn names_a_server(&self) -> bool {
        self.host.is_some()
    }

    /// The name of a variable that is set, for errors.
    pub(super) fn first_set(&self) -> Option<&'static str> {
        let set = [
            (self.host.is_some(), "POSTGRES_HOST"),
            (self.port.is_some(), "POSTGRES_PORT"),
            (self.database.is_some(), "POSTGRES_DB"),
            (self.user.is_some(), "POSTGRES_USER"),
            (self.password.is_some(), "POSTGRES_PASSWORD"),
        ];
        set.into_iter().find(|(is_set, _)| *is_set).map(|(_, name)| name)
    }

    /// The settings with the address of the URL, or of these variables.
    pub(super) fn change(self, postgres: PostgresConfig, url: Option<Secret>) -> PostgresConfig {
        // The login belongs to its address: a password of the settings is not sent to another server.
        let nothing = PostgresConfig::default();
        let PostgresConfig { schema, pool_size, role, ttl_seconds, budget_ms, .. } = postgres;
        self.set(PostgresConfig { url, schema, pool_size, role, ttl_seconds, budget_ms, ..nothing })
    }

    /// The settings with what these variables say beside the address that the settings have.
    pub(super) fn change_rest(self, postgres: Option<PostgresConfig>) -> Result<Option<PostgresConfig>> {
        match (postgres, self.first_set()) {
            (None, Some(variable)) => Err(Error::config(format!(
                "{variable} is set, and no setting names the Postgres server: set POSTGRES_HOST or DATABASE_URL"
            ))),
            (None, None) => Ok(None),
            (Some(postgres), None) => Ok(Some(postgres)),
            (Some(postgres), Some(_)) => {
                let url = postgres.url.as_ref().map(|url| self.without_what_is_replaced(url));
                Ok(Some(self.set(PostgresConfig { url, ..postgres })))
            }
        }
    }

    /// The URL without what these variables say differently.
    fn without_what_is_replaced(&self, url: &Secret) -> Secret {
        let mut url = ServerUrl::split(url.expose(), "");
        url.user = url.user.filter(|_| self.user.is_none());
        url.password = url.password.filter(|_| self.password.is_none());
        if self.database.is_some() {
            url.path.clear();
        }
        url.into_text().into()
    }

    fn set(self, mut postgres: PostgresConfig) -> PostgresConfig {
        postgres.host = self.host.or(postgres.host);
        postgres.port = self.port.or(postgres.port);
        postgres.database = self.database.or(postgres.database);
        postgres.user = self.user.or(postgres.user);
        set_password(&mut postgres.password, &mut postgres.password_file, self.password);
        postgres
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const PARTS: [(&str, &str); 5] = [
        ("POSTGRES_HOST", "db"),
        ("POSTGRES_PORT", "5433"),
        ("POSTGRES_DB", "shop"),
        ("POSTGRES_USER", "app"),
        ("POSTGRES_PASSWORD", "p@ss"),
    ];

    fn with(config: Config, vars: &[(&str, &str)]) -> Result<Config> {
        let find = |name: &str| vars.iter().find(|(known, _)| *known == name);
        config.with_vars(|name| find(name).map(|(_, value)| OsString::from(value)))
    }

    fn url(config: Config, vars: &[(&str, &str)]) -> String {
        let postgres = with(config, vars).unwrap().postgres.unwrap();
        postgres.address().unwrap().url.expose().to_owned()
    }

    fn refused(config: Config, vars: &[(&str, &str)]) -> String {
        let outcome = with(config, vars).and_then(|config| match &config.postgres {
            Some(postgres) => postgres.address().map(drop),
            None => Ok(()),
        });
        let error = outcome.unwrap_err();
        format!("{error} {error:?}")
    }

    #[test]
    fn an_address_in_parts_or_as_a_url_of_any_driver() {
        let complete = "postgres://app:p%40ss@db:5433/shop";
        assert_eq!(url(Config::in_memory(), &PARTS), complete);
        for variable in ["POSTGRES_CONNECTION", "DATABASE_URL"] {
            for scheme in ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"] {
                let text = format!("{scheme}://app:p%40ss@db:5433/shop");
                assert_eq!(url(Config::in_memory(), &[(variable, &text)]), complete);
            }
        }
        let all: Vec<_> = PARTS
            .into_iter()
            .chain([("DATABASE_URL", complete), ("POSTGRES_CONNECTION", complete)])
            .collect();
        assert_eq!(url(Config::in_memory(), &all), complete, "all say the same");
        let drivers = [
            ("DATABASE_URL", "postgresql+psycopg://app:p%40ss@db:5433/shop"),
            ("POSTGRES_CONNECTION", "postgresql+asyncpg://app:p%40ss@DB:5433/shop?ssl=require"),
        ];
        assert_eq!(url(Config::in_memory(), &drivers), complete, "two drivers of one database");
    }

    #[test]
    fn a_port_that_kubernetes_sets_is_none() {
        let vars = [("POSTGRES_HOST", "db"), ("POSTGRES_PORT", "tcp://10.0.0.1:5432")];
        assert_eq!(url(Config::in_memory(), &vars), "postgres://postgres@db:5432/postgres");
        let alone = with(Config::in_memory(), &[("POSTGRES_PORT", "tcp://10.0.0.1:5432")]).unwrap();
        assert_eq!(alone.postgres, None);
        assert!(refused(Config::in_memory(), &[("POSTGRES_PORT", "70000")]).contains("POSTGRES_PORT"));
    }

    #[test]
    fn what_contradicts_each_other_names_both_variables_and_shows_neither() {
        let conflicts = [
            (
                vec![("DATABASE_URL", "postgres://hush"), ("POSTGRES_HOST", "db")],
                ["DATABASE_URL", "POSTGRES_HOST"],
            ),
            (
                vec![("DATABASE_URL", "postgres://hush"), ("POSTGRES_CONNECTION", "postgres://db")],
                ["DATABASE_URL", "POSTGRES_CONNECTION"],
            ),
            (
                vec![
                    ("DATABASE_URL", "postgres://a:hush@db/x"),
                    ("POSTGRES_CONNECTION", "postgres://a@db/x"),
                ],
                ["DATABASE_URL", "POSTGRES_CONNECTION"],
            ),
            (
                vec![("POSTGRES_CONNECTION", "postgres://a:hush@db"), ("POSTGRES_PASSWORD", "other")],
                ["POSTGRES_CONNECTION", "POSTGRES_PASSWORD"],
            ),
            (
                vec![
                    ("POSTGRES_HOST", "db"),
                    ("POSTGRES_PASSWORD", "hush"),
                    ("POSTGRES_PASSWORD_FILE", "hush"),
                ],
                ["POSTGRES_PASSWORD ", "POSTGRES_PASSWORD_FILE"],
            ),
            (
                vec![("DATABASE_URL", "sqlite:hush"), ("POSTGRES_HOST", "hush")],
                ["DATABASE_URL", "POSTGRES_HOST"],
            ),
            (
                vec![("DATABASE_URL", "sqlite:hush"), ("POSTGRES_CONNECTION", "postgres://hush")],
                ["DATABASE_URL", "POSTGRES_CONNECTION"],
            ),
            (vec![("POSTGRES_PASSWORD", "hush")], ["POSTGRES_PASSWORD", "POSTGRES_HOST"]),
            (vec![("POSTGRES_CONNECTION", "sqlite:hush")], ["POSTGRES_CONNECTION", "postgres://"]),
            (
                vec![("POSTGRES_CONNECTION", "host=hush password=hush")],
                ["POSTGRES_CONNECTION", "postgres://"],
            ),
        ];
        for (vars, names) in conflicts {
            let shown = refused(Config::in_memory(), &vars);
            assert!(names.iter().all(|name| shown.contains(name)) && !shown.contains("hush"), "{shown}");
        }
    }

    #[test]
    fn a_password_in_a_file_is_read_when_the_url_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "pa/ss\n").unwrap();
        let vars = [("POSTGRES_HOST", "db"), ("POSTGRES_PASSWORD_FILE", path.to_str().unwrap())];
        assert_eq!(url(Config::in_memory(), &vars), "postgres://postgres:pa%2Fss@db:5432/postgres");
        let vars = [("POSTGRES_HOST", "db"), ("POSTGRES_PASSWORD_FILE", "/hush")];
        let shown = refused(Config::in_memory(), &vars);
        assert!(shown.contains("POSTGRES_PASSWORD_FILE") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn variables_replace_what_the_settings_say() {
        let of_parts = || {
            let text = "[postgres]\nhost = 'one'\nuser = 'app'\npassword = 'old'\nschema = 's'";
            Config::from_toml(text).unwrap()
        };
        let of_url = || Config::from_toml("[postgres]\nurl = 'postgres://app:old@one/shop'").unwrap();
        assert_eq!(url(of_parts(), &[("POSTGRES_PASSWORD", "new")]), "postgres://app:new@one:5432/app");
        assert_eq!(url(of_url(), &[("POSTGRES_PASSWORD", "new")]), "postgres://app:new@one/shop");
        assert_eq!(url(of_url(), &[("POSTGRES_DB", "new")]), "postgres://app:old@one/new");
        for settings in [of_parts(), of_url()] {
            let vars = [("POSTGRES_HOST", "two")];
            assert_eq!(url(settings.clone(), &vars), "postgres://postgres@two:5432/postgres");
            assert_eq!(url(settings, &[("DATABASE_URL", "postgres://two/a")]), "postgres://two/a");
        }
        let changed = with(of_parts(), &[("POSTGRES_HOST", "two")]).unwrap().postgres.unwrap();
        assert_eq!(changed.schema.as_deref(), Some("s"));
    }
}
