//! The parts of a server's URL, as far as settings beside the URL may replace or repeat them.
//!
//! The tiers check URLs. This splits also what the crate `url` refuses: several hosts, as in
//! `postgres://one:5432,two:5433/shop`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All that must not stand in a user, a password or a name of a database as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A URL in parts. It has no `Debug`: it holds the password.
pub(in crate::config) struct ServerUrl {
    pub(in crate::config) scheme: String,
    /// Decoded; `None` if empty.
    pub(in crate::config) user: Option<String>,
    /// Decoded; `None` if empty.
    pub(in crate::config) password: Option<String>,
    /// The hosts with their ports, as they stand in the URL.
    pub(in crate::config) hosts: String,
    /// The path without its slash, as it stands in the URL.
    pub(in crate::config) path: String,
    /// What follows the path: a query and a fragment, with `?` or `#`.
    pub(in crate::config) query: String,
}

impl ServerUrl {
    /// Splits a URL. A text without a scheme gets `default_scheme`.
    pub(in crate::config) fn split(text: &str, default_scheme: &str) -> Self {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or((default_scheme, text.trim()));
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (path, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let given = |text: &str| (!text.is_empty()).then(|| decoded(text));
        Self {
            scheme: scheme.to_owned(),
            user: given(user),
            password: given(password),
            hosts: hosts.to_owned(),
            path: path.strip_prefix('/').unwrap_or(path).to_owned(),
            query: query.to_owned(),
        }
    }

    /// The URL as a text again, with user and password escaped.
    pub(in crate::config) fn into_text(self) -> String {
        let Self { scheme, user, password, hosts, path, query } = self;
        let escaped = |text: Option<String>| text.map(|text| escaped(&text).into_owned()).unwrap_or_default();
        let login = match (escaped(user), escaped(password)) {
            (user, password) if user.is_empty() && password.is_empty() => String::new(),
            (user, password) if password.is_empty() => format!("{user}@"),
            (user, password) => format!("{user}:{password}@"),
        };
        format!("{scheme}://{login}{hosts}/{path}{query}")
    }
}

pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, ESCAPED).into()
}

/// The text without escapes. What is no UTF-8 without them stays as it is: the tier refuses it.
pub(super) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_and_put_together_again() {
        for text in [
            "redis://localhost:6379/0",
            "redis://:pass@localhost:6379/",
            "rediss://me:pa%40ss%2Fword@cache.example/",
            "redis+sentinel://me:pass@one:26379,two:26379/mymaster/3",
            "redis+unix:///run/redis.sock?db=3",
            "postgres://app@[::1]:5433/shop?sslmode=require",
            "postgres://app:pass@one:5432,two:5433/shop#part",
        ] {
            assert_eq!(ServerUrl::split(text, "redis").into_text(), text);
        }
    }

    #[test]
    fn login_and_hosts_are_found() {
        let url = ServerUrl::split(" me:p%40:a@ss@cache:6379/1?x=y ", "redis");
        let parts = (url.user.as_deref(), url.password.as_deref(), &*url.hosts, &*url.path, &*url.query);
        assert_eq!(parts, (Some("me"), Some("p@:a@ss"), "cache:6379", "1", "?x=y"));
        assert_eq!(url.scheme, "redis");
        for empty in ["redis://@cache", "redis://:@cache", "cache"] {
            let url = ServerUrl::split(empty, "redis");
            assert_eq!((url.user, url.password, &*url.hosts), (None, None, "cache"));
        }
        assert_eq!(ServerUrl::split("redis://:%ff@cache", "redis").password.as_deref(), Some("%ff"));
    }
}
