//! What the environment says about Redis.

use std::ffi::OsString;

use terrace_core::{Error, Result};

use super::vars::{Vars, set_password};
use crate::config::{RedisConfig, Secret, address::ServerUrl};

/// The settings of Redis, changed by the variables.
pub(super) fn changed<F: Fn(&str) -> Option<OsString>>(
    redis: Option<RedisConfig>,
    vars: &Vars<F>,
) -> Result<Option<RedisConfig>> {
    let url = vars.url("REDIS_URL")?;
    let (username, password) = (vars.text("REDIS_USERNAME")?, vars.password("REDIS_PASSWORD")?);
    let sentinel_username = vars.text("REDIS_SENTINEL_USERNAME")?;
    let sentinel_password = vars.password("REDIS_SENTINEL_PASSWORD")?;
    let given = [
        (password.is_some(), "REDIS_PASSWORD"),
        (username.is_some(), "REDIS_USERNAME"),
        (sentinel_password.is_some(), "REDIS_SENTINEL_PASSWORD"),
        (sentinel_username.is_some(), "REDIS_SENTINEL_USERNAME"),
    ];
    let mut redis = match (url, redis) {
        (Some(url), redis) => at(url, redis.unwrap_or_default()),
        (None, Some(redis)) => {
            let stays = |url: Secret| without_login(&url, username.is_some(), password.is_some());
            RedisConfig { url: redis.url.map(stays), ..redis }
        }
        (None, None) => match given.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, variable)) => {
                return Err(Error::config(format!(
                    "{variable} is set, and no setting names the Redis server: set REDIS_URL"
                )));
            }
            None => return Ok(None),
        },
    };
    redis.username = username.or(redis.username);
    set_password(&mut redis.password, &mut redis.password_file, password);
    redis.sentinel_username = sentinel_username.or(redis.sentinel_username);
    set_password(&mut redis.sentinel_password, &mut redis.sentinel_password_file, sentinel_password);
    redis.tls_ca_file = vars.path("REDIS_TLS_CA_FILE").or(redis.tls_ca_file);
    redis.tls_cert_file = vars.path("REDIS_TLS_CERT_FILE").or(redis.tls_cert_file);
    redis.tls_key_file = vars.path("REDIS_TLS_KEY_FILE").or(redis.tls_key_file);
    redis.allow_plaintext = vars.boolean("REDIS_ALLOW_PLAINTEXT")?.unwrap_or(redis.allow_plaintext);
    Ok(Some(redis))
}

/// The settings with another address. A login belongs to its address: a password of the settings is not sent to
/// another server.
fn at(url: Secret, redis: RedisConfig) -> RedisConfig {
    RedisConfig {
        url: Some(url),
        username: None,
        password: None,
        password_file: None,
        sentinel_username: None,
        sentinel_password: None,
        sentinel_password_file: None,
        ..redis
    }
}

/// The URL without the parts of its login that variables replace.
fn without_login(url: &Secret, user: bool, password: bool) -> Secret {
    if !user && !password {
        return url.clone();
    }
    let mut url = ServerUrl::split(url.expose(), "redis");
    url.user = url.user.filter(|_| !user);
    url.password = url.password.filter(|_| !password);
    url.into_text().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(redis: Option<RedisConfig>, vars: &[(&str, &str)]) -> Result<Option<RedisConfig>> {
        let find = |name: &str| vars.iter().find(|(known, _)| *known == name);
        changed(redis, &Vars(|name: &str| find(name).map(|(_, value)| OsString::from(value))))
    }

    fn file() -> Option<RedisConfig> {
        Some(RedisConfig {
            url: Some("redis://old:old@one/3".into()),
            prefix: Some("shop".to_owned()),
            ..RedisConfig::default()
        })
    }

    /// The URL, the user and the password that the settings amount to.
    fn complete(redis: &RedisConfig) -> String {
        let address = redis.address().unwrap();
        let user = address.login.user.unwrap_or_default();
        format!("{} {user} {}", address.url.expose(), address.login.password.unwrap_or_default().expose())
    }

    #[test]
    fn the_login_beside_the_url_is_read() {
        let vars = [("REDIS_URL", "cache:6379"), ("REDIS_USERNAME", "app"), ("REDIS_PASSWORD", "p@ss ")];
        let redis = with(None, &vars).unwrap().unwrap();
        assert_eq!(complete(&redis), "redis://cache:6379/ app p@ss ");
    }

    #[test]
    fn a_url_replaces_the_login_of_the_settings_and_nothing_else() {
        let settings = file().map(|file| RedisConfig { password_file: Some("/run/old".into()), ..file });
        let redis = with(settings, &[("REDIS_URL", "two")]).unwrap().unwrap();
        assert_eq!(complete(&redis), "redis://two/  ");
        assert_eq!(redis.prefix.as_deref(), Some("shop"));
    }

    #[test]
    fn a_login_replaces_that_of_the_settings_wherever_it_stands() {
        let changed = |settings, vars: &[(&str, &str)]| complete(&with(settings, vars).unwrap().unwrap());
        assert_eq!(changed(file(), &[("REDIS_PASSWORD", "new")]), "redis://one/3 old new");
        assert_eq!(changed(file(), &[("REDIS_USERNAME", "new")]), "redis://one/3 new old");
        let settings = file().map(|file| RedisConfig {
            url: Some("one".into()),
            password_file: Some("/no/such/file".into()),
            ..file
        });
        assert_eq!(changed(settings, &[("REDIS_PASSWORD", "new")]), "redis://one/  new");
    }

    #[test]
    fn a_login_without_a_server_is_an_error() {
        for (vars, named) in [
            (("REDIS_PASSWORD", "hush"), "REDIS_PASSWORD"),
            (("REDIS_PASSWORD_FILE", "hush"), "REDIS_PASSWORD"),
            (("REDIS_USERNAME", "hush"), "REDIS_USERNAME"),
            (("REDIS_SENTINEL_PASSWORD", "hush"), "REDIS_SENTINEL_PASSWORD"),
            (("REDIS_SENTINEL_USERNAME", "hush"), "REDIS_SENTINEL_USERNAME"),
        ] {
            let error = with(None, &[vars]).unwrap_err().to_string();
            assert!(
                error.contains(named) && error.contains("REDIS_URL") && !error.contains("hush"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_value_and_its_file_exclude_each_other() {
        for name in ["REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD", "REDIS_URL"] {
            let file = format!("{name}_FILE");
            let vars = [("REDIS_URL", "hush"), (name, "hush"), (&file, "hush")];
            let error = with(None, &vars).unwrap_err().to_string();
            assert!(error.contains(&file) && error.contains(&format!("{name} and")), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_url_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "redis://:pass@cache/1\n").unwrap();
        let redis = with(None, &[("REDIS_URL_FILE", path.to_str().unwrap())]).unwrap().unwrap();
        assert_eq!(complete(&redis), "redis://cache/1  pass");
        let error = with(None, &[("REDIS_URL_FILE", "/no/such/file")]).unwrap_err().to_string();
        assert!(error.contains("REDIS_URL_FILE") && !error.contains("/no/such"), "{error}");
    }
}
