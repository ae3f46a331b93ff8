//! The URL of a server, or of several servers of which one is the primary.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use terrace_tier::{Error, Result};

use crate::error::NAME;

/// The most hosts of a URL.
const MAX_HOSTS: usize = 16;

/// What a URL says.
pub(crate) struct Address {
    /// The connection options of each host, in the order of the URL. There is at least one.
    pub(crate) hosts: Vec<PgConnectOptions>,
    /// The passwords in the URL, as it writes them and as the server gets them.
    pub(crate) passwords: Vec<String>,
}

/// The address in the URL `text`. Several hosts are separated by commas, each with a port of its own:
/// `postgres://user:password@one:5432,two:5433/database`.
///
/// # Errors
/// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for a malformed URL. The error has no
/// source, because the errors of sqlx and url may show parts of the URL.
pub(crate) fn parse(text: &str) -> Result<Address> {
    let texts = one_url_for_each_host(text.trim()).ok_or_else(malformed)?;
    let urls = texts.iter().map(|text| url::Url::parse(text).map_err(|_| malformed()));
    let urls = urls.collect::<Result<Vec<_>>>()?;
    let passwords = urls.first().map(passwords).unwrap_or_default();
    let hosts = urls.into_iter().map(options).collect::<Result<Vec<_>>>()?;
    Ok(Address { hosts, passwords })
}

fn malformed() -> Error {
    Error::config(
        "not a Postgres URL: postgres://user:password@host:port/database, or with several hosts, \
         postgres://user:password@one:port,two:port/database",
    )
}

/// The URL once for each of its hosts.
fn one_url_for_each_host(text: &str) -> Option<Vec<String>> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let urls: Vec<String> = hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}")).collect();
    let empty = urls.len() > 1 && hosts.split(',').any(str::is_empty);
    (!empty && urls.len() <= MAX_HOSTS).then_some(urls)
}

fn options(mut url: url::Url) -> Result<PgConnectOptions> {
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(malformed());
    }
    // They are removed, because sqlx logs the value of a parameter that it does not know.
    let (known, unknown): (Vec<_>, Vec<_>) =
        url.query_pairs().into_owned().partition(|(name, _)| is_known(name));
    for (name, value) in &unknown {
        if name == "target_session_attrs" {
            if !matches!(value.as_str(), "any" | "read-write" | "primary") {
                return Err(Error::config(
                    "target_session_attrs must be read-write or primary: a standby answers from the past, \
                     so the library never uses one",
                ));
            }
        } else {
            // No cache uses the handle yet.
            let what = "the Postgres URL has an unknown parameter, which is ignored";
            tracing::warn!(cache = "", tier = NAME, parameter = %name, "{what}");
        }
    }
    if known.iter().any(|(name, value)| name == "host" && value.contains(',')) {
        return Err(Error::config(
            "several hosts are written before the path: postgres://one:port,two:port/database",
        ));
    }
    if !unknown.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(known);
    }
    PgConnectOptions::from_str(url.as_str()).map_err(|_| malformed())
}

fn passwords(url: &url::Url) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(password) = url.password() {
        found.push(password.to_owned());
        // A plus is a plus in this part of a URL.
        let pair = format!("p={}", password.replace('+', "%2B"));
        found.extend(url::form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()));
    }
    let of_query = url.query_pairs().filter(|(name, _)| name == "password");
    found.extend(of_query.map(|(_, value)| value.into_owned()));
    found
}

fn is_known(parameter: &str) -> bool {
    matches!(
        parameter,
        "sslmode"
            | "ssl-mode"
            | "sslrootcert"
            | "ssl-root-cert"
            | "ssl-ca"
            | "sslcert"
            | "ssl-cert"
            | "sslkey"
            | "ssl-key"
            | "statement-cache-capacity"
            | "host"
            | "hostaddr"
            | "port"
            | "dbname"
            | "user"
            | "password"
            | "application_name"
            | "options"
    ) || (parameter.starts_with("options[") && parameter.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_of_a_url_has_its_own_port_and_the_same_rest() {
        let address = parse("postgres://app:p%40ss@one:5433,two,[::1]:5435/db?sslmode=require").unwrap();
        let hosts: Vec<_> =
            address.hosts.iter().map(|host| (host.get_host().to_owned(), host.get_port())).collect();
        assert_eq!(hosts[0], ("one".to_owned(), 5433));
        assert_eq!(hosts[1].0, "two");
        assert_eq!(hosts[2], ("[::1]".to_owned(), 5435));
        for host in &address.hosts {
            assert_eq!((host.get_username(), host.get_database()), ("app", Some("db")));
        }
        assert!(address.passwords.contains(&"p@ss".to_owned()), "as the server gets it");
    }

    #[test]
    fn a_url_of_another_kind_is_refused_without_its_text() {
        let many = format!("postgres://u:hunter2@{}/db", vec!["h"; 17].join(","));
        for text in [
            "mysql://u:hunter2@h/db",
            "postgres:u:hunter2",
            "postgres://u:hunter2@one,,two/db",
            "postgres://u:hunter2@one:x,two/db",
            "postgres://u:hunter2@one/db?target_session_attrs=standby",
            "postgres://u:hunter2@h/db?host=one,two",
            &many,
        ] {
            let error = parse(text).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), terrace_tier::ErrorKind::Config);
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
