//! The address and login of a server, read from a URL that is checked when it is given.

use std::{fmt, net::IpAddr, path::PathBuf};

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use terrace_tier::{Error, Result};
use url::Url;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const FORM: &str = "write redis://[user:password@]host[:port][/db], and escape / @ # in the password";
const SENTINEL_FORM: &str = "write redis+sentinel://[user:password@]host[:port][,host[:port]..]/master[/db]";

/// A checked URL. Its `Display` and `Debug` output never shows the user or the password.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) endpoint: Endpoint,
    pub(crate) is_tls: bool,
    /// User, password and database.
    pub(crate) login: RedisConnectionInfo,
}

/// Where a server is.
#[derive(Clone)]
pub(crate) enum Endpoint {
    Server(Host),
    /// The path of a unix socket.
    Unix(PathBuf),
    /// Sentinels know the server that is the primary now.
    Sentinels {
        sentinels: Vec<Host>,
        master: String,
    },
}

/// A host name or address, and a port. The name is resolved at each attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads a URL, or `host:port` without a scheme.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("redis", text));
        match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => server(rest, false),
            "rediss" | "valkeys" => server(rest, true),
            "unix" | "redis+unix" | "valkey+unix" => unix_socket(rest),
            "redis+sentinel" | "valkey+sentinel" => sentinels(rest, false),
            "rediss+sentinel" | "valkeys+sentinel" => sentinels(rest, true),
            _ => Err(invalid(
                "needs the scheme redis:// or rediss://, redis+sentinel:// or rediss+sentinel://, or redis+unix://",
            )),
        }
    }

    /// Whether the network between could read what is sent.
    pub(crate) fn is_plaintext_to_another_host(&self) -> bool {
        !self.is_tls
            && match &self.endpoint {
                Endpoint::Server(host) => !host.is_loopback(),
                Endpoint::Unix(_) => false,
                Endpoint::Sentinels { sentinels, .. } => !sentinels.iter().all(Host::is_loopback),
            }
    }
}

impl Host {
    pub(crate) fn is_loopback(&self) -> bool {
        match self.name.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.name == "localhost" || self.name.ends_with(".localhost"),
        }
    }
}

fn server(rest: &str, is_tls: bool) -> Result<Address> {
    let url = parse(rest, FORM)?;
    let host = host_in(&url, REDIS_PORT)?;
    Ok(Address { endpoint: Endpoint::Server(host), is_tls, login: login_in(&url)? })
}

fn unix_socket(rest: &str) -> Result<Address> {
    let info = format!("redis+unix://{rest}").into_connection_info();
    let info = info.map_err(|_| invalid("is malformed; write redis+unix:///path[?db=1&user=..&pass=..]"))?;
    match info.addr() {
        ConnectionAddr::Unix(path) if path.is_absolute() => Ok(Address {
            endpoint: Endpoint::Unix(path.clone()),
            is_tls: false,
            login: info.redis_settings().clone(),
        }),
        _ => Err(invalid("names no socket; write redis+unix:///path[?db=1]")),
    }
}

fn sentinels(rest: &str, is_tls: bool) -> Result<Address> {
    let (authority, path) = rest.split_once('/').ok_or_else(|| invalid(SENTINEL_FORM))?;
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let (master, db) = path.split_once('/').unwrap_or((path, ""));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if master.is_empty() || !master.chars().all(is_plain) {
        return Err(invalid(&format!("names no master of the sentinels; {SENTINEL_FORM}")));
    }
    let mut sentinels = Vec::new();
    for host in hosts.split(',') {
        sentinels.push(host_in(&parse(host, SENTINEL_FORM)?, SENTINEL_PORT)?);
    }
    let login = login_in(&parse(&format!("{user}sentinel/{db}"), SENTINEL_FORM)?)?;
    Ok(Address { endpoint: Endpoint::Sentinels { sentinels, master: master.to_owned() }, is_tls, login })
}

/// Parses what follows the scheme. The error repeats neither the text nor the parser's message, since both may
/// contain the password.
fn parse(rest: &str, form: &str) -> Result<Url> {
    let url =
        Url::parse(&format!("redis://{rest}")).map_err(|_| invalid(&format!("is malformed; {form}")))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("has a query or a fragment; set options on the builder instead"));
    }
    Ok(url)
}

fn host_in(url: &Url, port: u16) -> Result<Host> {
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if name.is_empty() {
        return Err(invalid("names no host"));
    }
    match url.port().unwrap_or(port) {
        0 => Err(invalid("names port 0")),
        port => Ok(Host { name: name.to_owned(), port }),
    }
}

/// User, password and database of a URL, with escapes decoded.
fn login_in(url: &Url) -> Result<RedisConnectionInfo> {
    let db = url.path().trim_start_matches('/');
    if !db.is_empty() && db.parse::<u16>().is_err() {
        return Err(invalid("has a path that is not a database number"));
    }
    let info = url.as_str().into_connection_info().map_err(|_| invalid("cannot be used"))?;
    Ok(info.redis_settings().clone())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        match &self.endpoint {
            Endpoint::Server(host) => write!(f, "{scheme}://{host}")?,
            Endpoint::Unix(path) => write!(f, "redis+unix://{}", path.display())?,
            Endpoint::Sentinels { sentinels, master } => {
                let hosts: Vec<String> = sentinels.iter().map(Host::to_string).collect();
                write!(f, "{scheme}+sentinel://{}/{master}", hosts.join(","))?;
            }
        }
        match self.login.db() {
            0 => Ok(()),
            db => write!(f, "/{db}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn invalid(why: &str) -> Error {
    Error::config(format!("the Redis URL {why}"))
}

#[cfg(test)]
mod tests {
    use terrace_tier::ErrorKind;

    use super::*;

    #[test]
    fn urls_are_read_with_and_without_a_scheme() {
        for (text, shown) in [
            ("localhost:6379", "redis://localhost:6379"),
            ("localhost", "redis://localhost:6379"),
            ("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3"),
            (":secret@localhost:7000/1", "redis://localhost:7000/1"),
            ("rediss://user:secret@cache.example:6380", "rediss://cache.example:6380"),
            ("redis://[::1]:6379", "redis://[::1]:6379"),
            ("valkey://localhost", "redis://localhost:6379"),
            ("VALKEYS://localhost", "rediss://localhost:6379"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            ("unix:///run/redis.sock?db=3&user=me&pass=secret", "redis+unix:///run/redis.sock/3"),
            ("redis+sentinel://a/primary", "redis+sentinel://a:26379/primary"),
            (
                "rediss+sentinel://me:secret@a:1,b,[::1]:3/my-primary/2",
                "rediss+sentinel://a:1,b:26379,[::1]:3/my-primary/2",
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            let password = address.login.password();
            assert_eq!(password, text.contains("secret").then_some("secret"), "{text}");
        }
    }

    #[test]
    fn malformed_urls_are_config_errors_that_show_no_secret() {
        for text in [
            "",
            "redis://",
            "http://:secret@localhost",
            "redis://:secret@localhost:port",
            "redis://:sec#ret/secret@localhost:6379",
            "redis://:secret@localhost:99999",
            "redis://:secret@localhost:0",
            "redis://:secret@localhost/zero",
            "redis://:secret@localhost/-1",
            "rediss://:secret@localhost/#insecure",
            "redis://:secret@localhost/?protocol=resp2",
            "redis://:secret@local host",
            "redis+unix://",
            "redis+unix://host/path?pass=secret",
            "redis+sentinel://:secret@a:26379",
            "redis+sentinel://:secret@a:26379/",
            "redis+sentinel://:secret@a:26379,/primary",
            "redis+sentinel://:secret@a:26379,b:0/primary",
            "redis+sentinel://:secret@a/primary/zero",
            "redis+sentinel://:secret@a/primary?db=1",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(!format!("{error} {error:?}").contains("sec"), "{error}");
        }
    }

    #[test]
    fn escapes_in_user_and_password_are_decoded() {
        for text in ["redis://me:a%40b@localhost/4", "redis+sentinel://me:a%40b@s1,s2/primary/4"] {
            let login = Address::parse(text).unwrap().login;
            assert_eq!((login.username(), login.password(), login.db()), (Some("me"), Some("a@b"), 4));
        }
    }

    #[test]
    fn only_loopback_may_be_plain() {
        for text in [
            "localhost",
            "127.0.0.7:1",
            "redis://[::1]",
            "rediss://cache.example",
            "unix:///run/redis.sock",
            "redis+sentinel://localhost,127.0.0.1/primary",
            "rediss+sentinel://cache.example/primary",
        ] {
            assert!(!Address::parse(text).unwrap().is_plaintext_to_another_host(), "{text}");
        }
        for text in [
            "cache.example",
            "10.0.0.1",
            "redis://[2001:db8::1]",
            "localhost.example",
            "redis+sentinel://localhost,cache.example/primary",
        ] {
            assert!(Address::parse(text).unwrap().is_plaintext_to_another_host(), "{text}");
        }
    }
}
