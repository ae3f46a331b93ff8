//! The URL of Postgres, out of a URL, of the parts of an address, or of both.

use terrace_core::{Error, Result};

use super::{
    login::{Login, LoginNames, LoginSettings, complete, differ},
    url::{ServerUrl, decoded, escaped},
};
use crate::config::{PostgresConfig, Secret};

const NAMES: LoginNames = LoginNames {
    url: "postgres.url (DATABASE_URL, POSTGRES_CONNECTION)",
    user: "postgres.user (POSTGRES_USER)",
    password: "postgres.password (POSTGRES_PASSWORD)",
    password_file: "postgres.password_file (POSTGRES_PASSWORD_FILE)",
};
const HOST: &str = "postgres.host (POSTGRES_HOST)";
const PORT: &str = "postgres.port (POSTGRES_PORT)";
const DATABASE: &str = "postgres.database (POSTGRES_DB)";

const DEFAULT_PORT: u16 = 5432;
/// The user unless set, as in the container image of Postgres.
const DEFAULT_USER: &str = "postgres";

/// Whether this is the scheme of a Postgres URL, also one that names a driver, as SQLAlchemy writes it:
/// `postgresql+psycopg`.
pub(in crate::config) fn is_postgres(scheme: &str) -> bool {
    let (name, driver) = scheme.split_once('+').unwrap_or((scheme, "driver"));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    matches!(name, "postgres" | "postgresql") && !driver.is_empty() && driver.chars().all(plain)
}

/// How Postgres is reached.
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "it is checked, and no server is reached"))]
pub(in crate::config) struct PostgresAddress {
    pub(in crate::config) url: Secret,
    pub(in crate::config) login: Login,
}

impl PostgresConfig {
    /// The URL of the server and database with the login, and the login by itself.
    ///
    /// # Errors
    /// No address; settings that contradict each other; a file that cannot be read.
    pub(in crate::config) fn address(&self) -> Result<PostgresAddress> {
        let mut url = match (&self.url, &self.host) {
            (Some(url), _) => self.checked(ServerUrl::split(url.expose(), ""))?,
            (None, Some(host)) => self.of_parts(host)?,
            (None, None) => {
                return Err(Error::config(
                    "no setting names the Postgres server: set postgres.url or postgres.host, or one of \
                     DATABASE_URL, POSTGRES_CONNECTION and POSTGRES_HOST",
                ));
            }
        };
        let settings = LoginSettings {
            user: self.user.as_deref(),
            password: self.password.as_ref(),
            password_file: self.password_file.as_ref(),
        };
        let mut login = settings.complete(&NAMES, (url.user.take(), url.password.take()))?;
        if self.url.is_none() {
            let user = login.user.get_or_insert_with(|| DEFAULT_USER.to_owned());
            if url.path.is_empty() {
                url.path = escaped(user).into_owned();
            }
        }
        url.user = login.user.clone();
        url.password = login.password.as_ref().map(|password| password.expose().to_owned());
        Ok(PostgresAddress { url: url.into_text().into(), login })
    }

    /// The URL with the name of the database, once it agrees with the parts beside it.
    fn checked(&self, mut url: ServerUrl) -> Result<ServerUrl> {
        if !is_postgres(&url.scheme) {
            return Err(Error::config(format!("{} has another scheme than postgres://", NAMES.url)));
        }
        url.scheme = "postgres".to_owned();
        url.query = with_sslmode(&url.query);
        if let Some(host) = &self.host {
            let host = in_brackets(host);
            let known = [url.hosts.as_str(), without_port(&url.hosts)];
            if !known.iter().any(|known| known.eq_ignore_ascii_case(&host)) {
                return Err(differ("host", NAMES.url, HOST));
            }
        }
        if self.port.is_some_and(|port| port_of(&url.hosts).unwrap_or("5432") != port.to_string()) {
            return Err(differ("port", NAMES.url, PORT));
        }
        let mut database = Some(decoded(&url.path)).filter(|name| !name.is_empty());
        complete(&mut database, self.database.as_deref(), "database", NAMES.url, DATABASE)?;
        url.path = escaped(&database.unwrap_or_default()).into_owned();
        Ok(url)
    }

    /// The URL of an address that is given in parts, without a login.
    fn of_parts(&self, host: &str) -> Result<ServerUrl> {
        let port = self.port.unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err(Error::config(format!("{PORT} is 0, which is no port")));
        }
        // A path is the folder of a socket file, as in libpq.
        let (hosts, query) = match host.starts_with('/') {
            true => (format!("localhost:{port}"), format!("?host={}", escaped(host))),
            false => (hosts_with_port(host, port)?, String::new()),
        };
        Ok(ServerUrl {
            scheme: "postgres".to_owned(),
            user: None,
            password: None,
            hosts,
            path: escaped(self.database.as_deref().unwrap_or_default()).into_owned(),
            query,
        })
    }
}

/// Each host of a list with commas, with the port.
fn hosts_with_port(hosts: &str, port: u16) -> Result<String> {
    let with_port = |host: &str| {
        let host = in_brackets(host.trim());
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@%".contains(c);
        if host.is_empty() || host.contains(odd) || port_of(&host).is_some() {
            return Err(Error::config(format!(
                "{HOST} is a host name, an address or the folder of a socket, without a port: that is {PORT}"
            )));
        }
        Ok(format!("{host}:{port}"))
    };
    let hosts: Result<Vec<String>> = hosts.split(',').map(with_port).collect();
    Ok(hosts?.join(","))
}

/// An IPv6 address as a URL has it.
fn in_brackets(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

/// The port of one host; a host in brackets has colons of its own.
fn port_of(host: &str) -> Option<&str> {
    let after = host.rfind(']').map_or(0, |end| end + 1);
    host.get(after..).and_then(|rest| rest.split_once(':')).map(|(_, port)| port)
}

fn without_port(host: &str) -> &str {
    match port_of(host) {
        Some(port) => host.strip_suffix(port).and_then(|host| host.strip_suffix(':')).unwrap_or(host),
        None => host,
    }
}

/// The query with `sslmode` in the place of `ssl`, the parameter of the driver asyncpg. The tier would
/// ignore `ssl`, and the connection might then have no TLS.
fn with_sslmode(query: &str) -> String {
    let (parameters, fragment) = query.split_at(query.find('#').unwrap_or(query.len()));
    let Some(parameters) = parameters.strip_prefix('?') else {
        return query.to_owned();
    };
    let translate = |parameter: &str| match parameter.split_once('=') {
        Some(("ssl", "true" | "True" | "1" | "on")) => "sslmode=require".to_owned(),
        Some(("ssl", "false" | "False" | "0" | "off")) => "sslmode=disable".to_owned(),
        Some(("ssl", mode)) => format!("sslmode={mode}"),
        _ => parameter.to_owned(),
    };
    let parameters: Vec<String> = parameters.split('&').map(translate).collect();
    format!("?{}{fragment}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_url(url: &str) -> PostgresConfig {
        PostgresConfig { url: Some(url.into()), ..PostgresConfig::default() }
    }

    fn of_host(host: &str) -> PostgresConfig {
        PostgresConfig { host: Some(host.to_owned()), ..PostgresConfig::default() }
    }

    fn text(config: &PostgresConfig) -> String {
        config.address().unwrap().url.expose().to_owned()
    }

    #[test]
    fn the_names_of_drivers_are_taken_out_of_the_scheme() {
        for scheme in [
            "postgres",
            "postgresql",
            "postgresql+psycopg",
            "postgresql+psycopg2",
            "postgresql+asyncpg",
            "postgresql+pg8000",
            "postgres+psycopg_async",
        ] {
            let url = format!("{scheme}://app:p%40ss@db/shop?sslmode=require");
            assert_eq!(text(&of_url(&url)), "postgres://app:p%40ss@db/shop?sslmode=require");
        }
        for scheme in ["mysql", "mysql+psycopg", "postgresql+", "postgres+a-b", "postgresql+a+b", ""] {
            let error = of_url(&format!("{scheme}://app:hush@db/shop")).address().map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("DATABASE_URL"), "{error}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn the_ssl_parameter_of_asyncpg_is_not_lost() {
        for (given, query) in [
            ("?ssl=require", "?sslmode=require"),
            ("?application_name=a&ssl=verify-full", "?application_name=a&sslmode=verify-full"),
            ("?ssl=true", "?sslmode=require"),
            ("?ssl=false#part", "?sslmode=disable#part"),
            ("?sslmode=prefer", "?sslmode=prefer"),
        ] {
            assert_eq!(
                text(&of_url(&format!("postgresql+asyncpg://db/a{given}"))),
                format!("postgres://db/a{query}")
            );
        }
    }

    #[test]
    fn an_address_in_parts_has_the_defaults_of_the_container_image() {
        assert_eq!(text(&of_host("db")), "postgres://postgres@db:5432/postgres");
        let all = PostgresConfig {
            port: Some(5433),
            database: Some("my shop".into()),
            user: Some("app".into()),
            password: Some("p@ss/w:rd".into()),
            ..of_host("db.example")
        };
        assert_eq!(text(&all), "postgres://app:p%40ss%2Fw%3Ard@db.example:5433/my%20shop");
        let user = PostgresConfig { user: Some("app".into()), ..of_host("one,two") };
        assert_eq!(text(&user), "postgres://app@one:5432,two:5432/app");
        assert_eq!(text(&of_host("::1")), "postgres://postgres@[::1]:5432/postgres");
        let socket = "postgres://postgres@localhost:5432/postgres?host=%2Frun%2Fpostgresql";
        assert_eq!(text(&of_host("/run/postgresql")), socket);
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in ["", "db:5433", "one,,two", "app@db", "db/shop", "d b", "[::1]:5433", "postgres://db"] {
            let error = of_host(host).address().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("POSTGRES_HOST"), "{host}: {error}");
        }
        let error = PostgresConfig { port: Some(0), ..of_host("db") }.address().map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("POSTGRES_PORT"), "{error}");
    }

    #[test]
    fn a_url_gets_what_it_leaves_out_and_may_say_the_same_as_the_parts() {
        let parts = || PostgresConfig {
            port: Some(5432),
            database: Some("shop".into()),
            user: Some("app".into()),
            password: Some("pass".into()),
            ..of_host("DB")
        };
        for url in [
            "postgres://db",
            "postgres://db:5432/shop",
            "postgres://app@db/shop",
            "postgres://app:pass@db:5432/shop",
        ] {
            let complete = text(&PostgresConfig { url: Some(url.into()), ..parts() });
            let expected =
                ["postgres://app:pass@db/shop".to_owned(), "postgres://app:pass@db:5432/shop".to_owned()];
            assert!(expected.contains(&complete), "{complete}");
        }
    }

    #[test]
    fn parts_that_differ_from_the_url_are_named_and_not_shown() {
        let base = || of_url("postgres://one:one@one:1/one");
        let two = || Some("two".to_owned());
        for (config, variable) in [
            (PostgresConfig { host: two(), ..base() }, "POSTGRES_HOST"),
            (PostgresConfig { port: Some(2), ..base() }, "POSTGRES_PORT"),
            (PostgresConfig { database: two(), ..base() }, "POSTGRES_DB"),
            (PostgresConfig { user: two(), ..base() }, "POSTGRES_USER"),
            (PostgresConfig { password: Some("two".into()), ..base() }, "POSTGRES_PASSWORD"),
            (PostgresConfig { port: Some(2), ..of_url("postgres://one") }, "POSTGRES_PORT"),
        ] {
            let error = config.address().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("DATABASE_URL") && error.contains(variable), "{error}");
            let words = error.replace("one of them", "");
            assert!(!words.contains("one") && !words.contains("two"), "{error}");
        }
        let error = PostgresConfig::default().address().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("POSTGRES_HOST") && error.contains("DATABASE_URL"), "{error}");
    }
}
