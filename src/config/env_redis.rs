//! What the environment says about Redis.

use std::ffi::OsString;

use terrace_core::{Error, Result};

use super::{
    RedisConfig, Secret,
    url::ServerUrl,
    vars::{Vars, set_password},
};

/// The settings of Redis, changed by the variables.
pub(super) fn changed<F: Fn(&str) -> Option<OsString>>(
    redis: Option<RedisConfig>,
    vars: &Vars<F>,
) -> Result<Option<RedisConfig>> {
    let url = vars.url("REDIS_URL")?;
    let (username, password) = (vars.text("REDIS_USERNAME")?, vars.password("REDIS_PASSWORD")?);
    let allow_plaintext = vars.boolean("REDIS_ALLOW_PLAINTEXT")?;
    let mut redis = match (url, redis) {
        // The login belongs to its address: a password of the settings is not sent to another server.
        (Some(url), redis) => RedisConfig {
            url: Some(url),
            username: None,
            password: None,
            password_file: None,
            ..redis.unwrap_or_default()
        },
        (None, Some(redis)) => {
            let stays = |url: Secret| without_login(&url, username.is_some(), password.is_some());
            RedisConfig { url: redis.url.map(stays), ..redis }
        }
        (None, None) if username.is_some() || password.is_some() => {
            let variable = if password.is_some() { "REDIS_PASSWORD" } else { "REDIS_USERNAME" };
            return Err(Error::config(format!(
                "{variable} is set, and no setting names the Redis server: set REDIS_URL"
            )));
        }
        (None, None) => return Ok(None),
    };
    redis.username = username.or(redis.username);
    set_password(&mut redis.password, &mut redis.password_file, password);
    redis.allow_plaintext = allow_plaintext.unwrap_or(redis.allow_plaintext);
    Ok(Some(redis))
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

    #[test]
    fn the_login_beside_the_url_is_read() {
        let vars = [("REDIS_URL", "cache:6379"), ("REDIS_USERNAME", "app"), ("REDIS_PASSWORD", "p@ss ")];
        let redis = with(None, &vars).unwrap().unwrap();
        assert_eq!(redis.complete_url().unwrap().expose(), "redis://app:p%40ss%20@cache:6379/");
    }

    #[test]
    fn a_url_replaces_the_login_of_the_settings_and_nothing_else() {
        let settings = file().map(|file| RedisConfig { password_file: Some("/run/old".into()), ..file });
        let redis = with(settings, &[("REDIS_URL", "two")]).unwrap().unwrap();
        assert_eq!(redis.complete_url().unwrap().expose(), "redis://two/");
        assert_eq!(redis.prefix.as_deref(), Some("shop"));
    }

    #[test]
    fn a_login_replaces_that_of_the_settings_wherever_it_stands() {
        let complete = |settings, vars: &[(&str, &str)]| {
            with(settings, vars).unwrap().unwrap().complete_url().unwrap().expose().to_owned()
        };
        assert_eq!(complete(file(), &[("REDIS_PASSWORD", "new")]), "redis://old:new@one/3");
        assert_eq!(complete(file(), &[("REDIS_USERNAME", "new")]), "redis://new:old@one/3");
        let settings = file().map(|file| RedisConfig {
            url: Some("one".into()),
            password_file: Some("/no/such/file".into()),
            ..file
        });
        assert_eq!(complete(settings, &[("REDIS_PASSWORD", "new")]), "redis://:new@one/");
    }

    #[test]
    fn a_login_without_a_server_is_an_error() {
        for (vars, named) in [
            (("REDIS_PASSWORD", "hush"), "REDIS_PASSWORD"),
            (("REDIS_PASSWORD_FILE", "hush"), "REDIS_PASSWORD"),
            (("REDIS_USERNAME", "hush"), "REDIS_USERNAME"),
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
        for name in ["REDIS_PASSWORD", "REDIS_URL"] {
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
        assert_eq!(redis.complete_url().unwrap().expose(), "redis://:pass@cache/1");
        let error = with(None, &[("REDIS_URL_FILE", "/no/such/file")]).unwrap_err().to_string();
        assert!(error.contains("REDIS_URL_FILE") && !error.contains("/no/such"), "{error}");
    }
}
