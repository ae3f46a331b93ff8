//! The settings: a TOML file, and variables of the environment, which win.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use terrace::{Error, Result, config::Config};
use terrace_agent::{
    LlmSettings,
    llm::{Prices, ReplaySpeed, When},
};

/// Whose answers a caller may get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Those of callers with the same credential.
    #[default]
    Credential,
    /// Those of all callers.
    Shared,
}

/// The settings of the proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The address to listen at; `127.0.0.1:4141`. `TERRACE_PROXY_LISTEN` wins.
    pub listen: SocketAddr,
    /// The upstream server of each route, by the first segment of the path. Without any there are `openai` and
    /// `anthropic`. `TERRACE_PROXY_ROUTES`, as `name=url,name=url`, wins.
    pub routes: BTreeMap<String, String>,
    /// Whose answers a caller may get; `credential`.
    pub scope: Scope,
    /// The file with the prices. `TERRACE_PROXY_PRICES` wins.
    pub prices: Option<PathBuf>,
    /// How long an answer is kept, in seconds; 3600.
    pub life_seconds: u64,
    /// Whether requests alone that give the temperature 0 or a seed use the cache.
    pub deterministic_only: bool,
    /// A part of every key. Another one begins with an empty cache.
    pub generation: String,
    /// How long this process waits for the call of another one, in ms; 2000.
    pub patience_ms: u64,
    /// How long a call of upstream may take in all, in seconds; 600.
    pub deadline_seconds: u64,
    /// The largest body of a request, in bytes; 32 MiB.
    pub max_body_bytes: usize,
    /// Whether a kept stream is replayed with the pauses that it had.
    pub recorded_speed: bool,
    /// The tiers, as in a configuration of `terrace`. Without any there is memory before the file `terrace-proxy.db`.
    /// `REDIS_URL` and `DATABASE_URL` win.
    pub cache: Option<Config>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4141)),
            routes: BTreeMap::new(),
            scope: Scope::default(),
            prices: None,
            life_seconds: 3600,
            deterministic_only: false,
            generation: "1".to_owned(),
            patience_ms: 2000,
            deadline_seconds: 600,
            max_body_bytes: 32 * 1024 * 1024,
            recorded_speed: false,
            cache: None,
        }
    }
}

/// Paths of the proxy's own.
const OWN_PATHS: [&str; 3] = ["stats", "metrics", "healthz"];

impl Settings {
    /// The settings of a TOML text.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace::ErrorKind::Config) with the line.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Error::config(format!("line {line} of the settings: {}", error.message()))
        })
    }

    /// Takes what the environment says: `TERRACE_PROXY_LISTEN`, `_ROUTES` and `_PRICES`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace::ErrorKind::Config), with the name of the variable.
    pub fn with_env(mut self) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(listen) = variable("TERRACE_PROXY_LISTEN") {
            let wrong = |_| Error::config("TERRACE_PROXY_LISTEN is an address and a port, as 127.0.0.1:4141");
            self.listen = listen.parse().map_err(wrong)?;
        }
        if let Some(routes) = variable("TERRACE_PROXY_ROUTES") {
            self.routes.clear();
            for route in routes.split(',') {
                let (name, url) = route.split_once('=').ok_or_else(|| {
                    Error::config("TERRACE_PROXY_ROUTES has routes as name=url, with commas between them")
                })?;
                self.routes.insert(name.trim().to_owned(), url.trim().to_owned());
            }
        }
        if let Some(prices) = variable("TERRACE_PROXY_PRICES") {
            self.prices = Some(prices.into());
        }
        Ok(self)
    }

    /// The upstream server of each route, without a slash at its end.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace::ErrorKind::Config) for a name or URL that cannot work. It does not show the URL.
    pub fn upstreams(&self) -> Result<BTreeMap<String, String>> {
        if self.routes.is_empty() {
            let known = [("openai", "https://api.openai.com"), ("anthropic", "https://api.anthropic.com")];
            return Ok(known.map(|(name, url)| (name.to_owned(), url.to_owned())).into());
        }
        for (name, url) in &self.routes {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if name.is_empty() || !plain || OWN_PATHS.contains(&name.as_str()) {
                let what = "a name has letters, digits, - and _, and is not stats, metrics or healthz";
                return Err(Error::config(format!("the route `{name}`: {what}")));
            }
            let parsed = reqwest::Url::parse(url).ok();
            let is_server = |url: reqwest::Url| {
                matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.password().is_none()
            };
            if !parsed.is_some_and(is_server) {
                let what = "its server is an http or https URL without a login and a query";
                return Err(Error::config(format!("the route `{name}`: {what}")));
            }
        }
        Ok(self
            .routes
            .iter()
            .map(|(name, url)| (name.clone(), url.trim_end_matches('/').to_owned()))
            .collect())
    }

    /// The settings of the cache of answers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace::ErrorKind::Config) for a file of prices that cannot be read or understood, with
    /// line and word.
    pub fn llm(&self) -> Result<LlmSettings> {
        let prices = match &self.prices {
            None => Prices::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Error::config(format!("the prices in {}", path.display())).with_source(error)
                })?;
                Prices::from_toml(&text)?
            }
        };
        Ok(LlmSettings {
            when: if self.deterministic_only { When::Deterministic } else { When::Always },
            life: Duration::from_secs(self.life_seconds),
            generation: self.generation.clone(),
            prices,
            patience: Duration::from_millis(self.patience_ms),
            deadline: Duration::from_secs(self.deadline_seconds),
            replay_speed: if self.recorded_speed { ReplaySpeed::Recorded } else { ReplaySpeed::Immediate },
            ..LlmSettings::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_name_the_line_or_the_word() {
        let error =
            Settings::from_toml("scope = 'shared'\nlissten = '127.0.0.1:1'\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("lissten"), "{error}");
        for route in ["stats = 'http://x'", "'a/b' = 'http://x'", "a = 'ftp://x'", "a = 'http://u:secret@x'"]
        {
            let settings = Settings::from_toml(&format!("[routes]\n{route}\n")).unwrap();
            let error = settings.upstreams().unwrap_err().to_string();
            assert!(error.contains("the route") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn prices_that_do_not_parse_are_an_error_with_line_and_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prices.toml");
        std::fs::write(&path, "[models.a]\ninput = 1\noutput = cheap\n").unwrap();
        let error =
            Settings { prices: Some(path.clone()), ..Settings::default() }.llm().unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("cheap"), "{error}");
        std::fs::remove_file(path).unwrap();
        let settings = Settings { prices: Some(folder.path().join("none.toml")), ..Settings::default() };
        assert!(settings.llm().unwrap_err().to_string().contains("none.toml"));
    }

    #[test]
    fn without_routes_there_are_two_and_the_proxy_listens_on_loopback() {
        let settings = Settings::from_toml("").unwrap();
        assert_eq!(settings.upstreams().unwrap().keys().collect::<Vec<_>>(), ["anthropic", "openai"]);
        assert!(settings.listen.ip().is_loopback());
    }
}
