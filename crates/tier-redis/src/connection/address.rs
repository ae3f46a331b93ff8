//! The address and login of a server, read from a URL that is checked when it is given.

use std::{fmt, net::IpAddr};

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion, io::tcp::TcpSettings};
use terrace_tier::{Error, Result};
use url::Url;

/// A checked URL. Its `Display` and `Debug` output never shows the user or the password.
#[derive(Clone)]
pub(crate) struct Address {
    url: Url,
    password: Option<String>,
}

impl Address {
    /// Reads `redis://` and `rediss://` URLs, and `host:port` without a scheme.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
        // The error repeats neither the text nor the parser's message: both may contain the password.
        let url = Url::parse(&with_scheme).map_err(|_| {
            invalid(
                "is malformed; write redis://[user:password@]host[:port][/db], and escape / @ # in the password",
            )
        })?;
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err(invalid("needs the scheme redis:// or rediss://"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("names no host"));
        }
        if url.port() == Some(0) {
            return Err(invalid("names port 0"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("has a query or a fragment; set options on the builder instead"));
        }
        let db = url.path().trim_start_matches('/');
        if !db.is_empty() && db.parse::<u16>().is_err() {
            return Err(invalid("has a path that is not a database number"));
        }
        Ok(Self { url, password: None })
    }

    pub(crate) fn set_password(&mut self, password: String) {
        self.password = Some(password);
    }

    /// Whether the network between could read what is sent.
    pub(crate) fn is_plaintext_to_another_host(&self) -> bool {
        self.url.scheme() == "redis" && !self.is_loopback()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.url.scheme() == "rediss"
    }

    fn is_loopback(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        }
    }

    /// The address and login in the form that the client takes.
    pub(crate) fn connection_info(&self) -> Result<ConnectionInfo> {
        let info = self.url.as_str().into_connection_info().map_err(|_| invalid("cannot be used"))?;
        let mut login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        // Over a network, Nagle's algorithm costs a trip. Within a host it costs none and lets calls share
        // segments: without it, 8 to 32 callers need a quarter more CPU time for each call (measured).
        let tcp = TcpSettings::default().set_nodelay(!self.is_loopback());
        Ok(info.set_redis_settings(login).set_tcp_settings(tcp))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{}://{host}:{}", self.url.scheme(), self.url.port().unwrap_or(6379))?;
        match self.url.path().trim_start_matches('/') {
            "" => Ok(()),
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
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(address.connection_info().is_ok(), "{text}");
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
        ] {
            let error = Address::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(!format!("{error} {error:?}").contains("sec"), "{error}");
        }
    }

    #[test]
    fn passwords_are_decoded_and_replaced() {
        let mut address = Address::parse("redis://me:a%40b@localhost").unwrap();
        let password = |address: &Address| {
            address.connection_info().unwrap().redis_settings().password().map(str::to_owned)
        };
        assert_eq!(password(&address).as_deref(), Some("a@b"));
        address.set_password("other".into());
        assert_eq!(password(&address).as_deref(), Some("other"));
        assert!(!format!("{address:?} {address}").contains("other"));
    }

    #[test]
    fn only_loopback_may_be_plain() {
        for text in ["localhost", "127.0.0.7:1", "redis://[::1]", "rediss://cache.example"] {
            assert!(!Address::parse(text).unwrap().is_plaintext_to_another_host(), "{text}");
        }
        for text in ["cache.example", "10.0.0.1", "redis://[2001:db8::1]", "localhost.example"] {
            assert!(Address::parse(text).unwrap().is_plaintext_to_another_host(), "{text}");
        }
    }
}
