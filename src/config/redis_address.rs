//! The URL of Redis, out of the settings of its address and login.

use terrace_core::{Error, Result};

use super::{
    RedisConfig, Secret,
    login::{LoginNames, LoginSettings},
    url::ServerUrl,
};

const NAMES: LoginNames = LoginNames {
    url: "redis.url (REDIS_URL)",
    user: "redis.username (REDIS_USERNAME)",
    password: "redis.password (REDIS_PASSWORD)",
    password_file: "redis.password_file (REDIS_PASSWORD_FILE)",
};

impl RedisConfig {
    /// The URL with the login.
    ///
    /// # Errors
    /// No URL; settings that contradict each other; a user without a password, whom the client would
    /// leave out; a file that cannot be read.
    pub(super) fn complete_url(&self) -> Result<Secret> {
        let Some(url) = &self.url else {
            return Err(Error::config("no setting names the Redis server: set redis.url, or REDIS_URL"));
        };
        let mut url = ServerUrl::split(url.expose(), "redis");
        let settings = LoginSettings {
            user: self.username.as_deref(),
            password: self.password.as_ref(),
            password_file: self.password_file.as_ref(),
        };
        settings.complete(&NAMES, &mut url.user, &mut url.password)?;
        if url.user.is_some() && url.password.is_none() {
            return Err(Error::config(format!(
                "the Redis login has a user and no password: set {} or {}",
                NAMES.password, NAMES.password_file
            )));
        }
        Ok(url.into_text().into())
    }
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
            ("cache", None, None, "redis://cache/"),
            ("cache:7000/3", None, Some("p@ss/w#rd"), "redis://:p%40ss%2Fw%23rd@cache:7000/3"),
            ("redis://cache", Some("app"), Some("pass"), "redis://app:pass@cache/"),
            ("rediss://app@cache/1", None, Some("pass"), "rediss://app:pass@cache/1"),
            ("redis://:pass@cache/1", Some("app"), None, "redis://app:pass@cache/1"),
            ("redis://app:p%40ss@cache/1", Some("app"), Some("p@ss"), "redis://app:p%40ss@cache/1"),
        ] {
            let complete = config(url, username, password).complete_url().unwrap();
            assert_eq!(complete.expose(), expected);
        }
    }

    #[test]
    fn what_contradicts_itself_names_both_settings_and_shows_neither() {
        for (config, names) in [
            (config("redis://:one@cache", None, Some("two")), ["REDIS_URL", "REDIS_PASSWORD)"]),
            (config("redis://one:x@cache", Some("two"), None), ["REDIS_URL", "REDIS_USERNAME"]),
            (config("redis://one@cache", None, None), ["REDIS_PASSWORD)", "REDIS_PASSWORD_FILE"]),
            (
                RedisConfig { password_file: Some("two".into()), ..config("cache", None, Some("one")) },
                ["REDIS_PASSWORD)", "REDIS_PASSWORD_FILE"],
            ),
            (RedisConfig::default(), ["redis.url", "REDIS_URL"]),
        ] {
            let error = config.complete_url().unwrap_err().to_string();
            assert!(names.iter().all(|name| error.contains(name)), "{error}");
            let words = error.replace("one of them", "");
            assert!(!words.contains("one") && !words.contains("two"), "{error}");
        }
    }
}
