//! The address and logins of Redis, out of the settings that give them.

use terrace_core::{Error, Result};

use super::{
    login::{Login, LoginNames, LoginSettings},
    url::{ServerUrl, decoded},
};
use crate::config::{RedisConfig, Secret};

const NAMES: LoginNames = LoginNames {
    url: "redis.url (REDIS_URL)",
    user: "redis.username (REDIS_USERNAME)",
    password: "redis.password (REDIS_PASSWORD)",
    password_file: "redis.password_file (REDIS_PASSWORD_FILE)",
};

const SENTINEL_NAMES: LoginNames = LoginNames {
    url: NAMES.url,
    user: "redis.sentinel_username (REDIS_SENTINEL_USERNAME)",
    password: "redis.sentinel_password (REDIS_SENTINEL_PASSWORD)",
    password_file: "redis.sentinel_password_file (REDIS_SENTINEL_PASSWORD_FILE)",
};

const CA: &str = "redis.tls_ca_file (REDIS_TLS_CA_FILE)";
const CERTIFICATE: &str = "redis.tls_cert_file (REDIS_TLS_CERT_FILE)";
const KEY: &str = "redis.tls_key_file (REDIS_TLS_KEY_FILE)";

/// How Redis is reached.
#[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "it is checked, and no server is reached"))]
pub(in crate::config) struct RedisAddress {
    /// The URL without its login.
    pub(in crate::config) url: Secret,
    pub(in crate::config) login: Login,
    pub(in crate::config) sentinel_login: Login,
    /// The authorities that are trusted, in PEM.
    pub(in crate::config) tls_ca: Option<Vec<u8>>,
    /// The certificate that is shown to the server, and its key, in PEM.
    pub(in crate::config) tls_client: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisConfig {
    /// The address with its logins and certificates.
    ///
    /// # Errors
    /// No URL; settings that contradict each other; a user without a password, whom the client would
    /// leave out; a file that cannot be read.
    pub(in crate::config) fn address(&self) -> Result<RedisAddress> {
        let Some(url) = &self.url else {
            return Err(Error::config("no setting names the Redis server: set redis.url, or REDIS_URL"));
        };
        let mut url = ServerUrl::split(url.expose(), "redis");
        let in_url = take_login(&mut url);
        let settings = LoginSettings {
            user: self.username.as_deref(),
            password: self.password.as_ref(),
            password_file: self.password_file.as_ref(),
        };
        let of_sentinels = LoginSettings {
            user: self.sentinel_username.as_deref(),
            password: self.sentinel_password.as_ref(),
            password_file: self.sentinel_password_file.as_ref(),
        };
        Ok(RedisAddress {
            login: with_password(settings.complete(&NAMES, in_url)?, &NAMES)?,
            sentinel_login: with_password(
                of_sentinels.complete(&SENTINEL_NAMES, (None, None))?,
                &SENTINEL_NAMES,
            )?,
            tls_ca: self.tls_ca_file.as_ref().map(|file| file.read_pem(CA)).transpose()?,
            tls_client: match (&self.tls_cert_file, &self.tls_key_file) {
                (Some(certificate), Some(key)) => {
                    Some((certificate.read_pem(CERTIFICATE)?, key.read_pem(KEY)?))
                }
                (None, None) => None,
                _ => return Err(Error::config(format!("{CERTIFICATE} and {KEY} need each other"))),
            },
            url: url.into_text().into(),
        })
    }
}

fn with_password(login: Login, names: &LoginNames) -> Result<Login> {
    if login.user.is_some() && login.password.is_none() {
        return Err(Error::config(format!(
            "the Redis login has a user and no password: set {} or {}",
            names.password, names.password_file
        )));
    }
    Ok(login)
}

/// Takes user and password out of a URL: before the host, or in the query of the URL of a unix socket.
fn take_login(url: &mut ServerUrl) -> (Option<String>, Option<String>) {
    let (mut user, mut password) = (url.user.take(), url.password.take());
    if url.scheme.ends_with("unix") {
        let query = std::mem::take(&mut url.query);
        let mut rest = Vec::new();
        for parameter in query.trim_start_matches('?').split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("user", value)) => user = Some(decoded(value)),
                Some(("pass", value)) => password = Some(decoded(value)),
                _ => rest.push(parameter),
            }
        }
        if !rest.is_empty() {
            url.query = format!("?{}", rest.join("&"));
        }
    }
    (user.filter(|user| !user.is_empty()), password.filter(|password| !password.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str, username: Option<&str>, password: Option<&str>) -> RedisConfig {
        RedisConfig {
            url: Some(url.into()),
            username: username.map(str::to_owned),
            password: password.map(Secret::from),
            ..RedisConfig::default()
        }
    }

    #[test]
    fn a_url_gets_the_login_that_it_leaves_out() {
        for (url, username, password, expected) in [
            ("cache", None, None, ["redis://cache/", "", ""]),
            ("cache:7000/3", None, Some("p@ss/w#rd"), ["redis://cache:7000/3", "", "p@ss/w#rd"]),
            ("redis://cache", Some("app"), Some("pass"), ["redis://cache/", "app", "pass"]),
            ("rediss://app@cache/1", None, Some("pass"), ["rediss://cache/1", "app", "pass"]),
            ("redis://:pass@cache/1", Some("app"), None, ["redis://cache/1", "app", "pass"]),
            ("redis://app:p%40ss@cache/1", Some("app"), Some("p@ss"), ["redis://cache/1", "app", "p@ss"]),
            (
                "redis+sentinel://app:pass@one:1,two:2/main/3",
                None,
                None,
                ["redis+sentinel://one:1,two:2/main/3", "app", "pass"],
            ),
            (
                "redis+unix:///run/r.sock?db=3",
                None,
                Some("pass"),
                ["redis+unix:///run/r.sock?db=3", "", "pass"],
            ),
            ("unix:///r.sock?user=app&pass=p%40ss", None, None, ["unix:///r.sock", "app", "p@ss"]),
        ] {
            let address = config(url, username, password).address().unwrap();
            let Login { user, password, .. } = address.login;
            let password = password.unwrap_or_default();
            let found = [address.url.expose(), user.as_deref().unwrap_or_default(), password.expose()];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_contradicts_itself_names_both_settings_and_shows_neither() {
        let password = |name: &'static str| Some(Secret::from(name));
        for (config, names) in [
            (config("redis://:one@cache", None, Some("two")), ["REDIS_URL", "REDIS_PASSWORD)"]),
            (config("unix:///r.sock?pass=one", None, Some("two")), ["REDIS_URL", "REDIS_PASSWORD)"]),
            (config("redis://one:x@cache", Some("two"), None), ["REDIS_URL", "REDIS_USERNAME"]),
            (config("redis://one@cache", None, None), ["REDIS_PASSWORD)", "REDIS_PASSWORD_FILE"]),
            (
                RedisConfig { password_file: Some("two".into()), ..config("cache", None, Some("one")) },
                ["REDIS_PASSWORD)", "REDIS_PASSWORD_FILE"],
            ),
            (
                RedisConfig {
                    sentinel_password: password("one"),
                    sentinel_password_file: Some("two".into()),
                    ..config("cache", None, None)
                },
                ["REDIS_SENTINEL_PASSWORD)", "REDIS_SENTINEL_PASSWORD_FILE"],
            ),
            (
                RedisConfig { sentinel_username: Some("one".into()), ..config("cache", None, None) },
                ["REDIS_SENTINEL_PASSWORD)", "REDIS_SENTINEL_PASSWORD_FILE"],
            ),
            (
                RedisConfig { tls_cert_file: Some("one".into()), ..config("cache", None, None) },
                ["REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE"],
            ),
            (
                RedisConfig { tls_ca_file: Some("two".into()), ..config("cache", None, None) },
                ["REDIS_TLS_CA_FILE", "cannot be read"],
            ),
            (RedisConfig::default(), ["redis.url", "REDIS_URL"]),
        ] {
            let error = config.address().map(|_| ()).unwrap_err().to_string();
            assert!(names.iter().all(|name| error.contains(name)), "{error}");
            let words = error.replace("one of them", "");
            assert!(!words.contains("one") && !words.contains("two"), "{error}");
        }
    }
}
