//! The settings of the cache of answers.

use std::time::Duration;

use terrace::{Error, Result};

use super::{key::KeyRules, prices::Prices, reply::ReplaySpeed, request::LlmRequest};

/// Which requests use the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// All of them. The sampling parameters are a part of the key.
    #[default]
    Always,
    /// Those that give the temperature 0 or a seed. An omitted temperature is not 0.
    Deterministic,
}

impl When {
    pub(crate) fn takes(self, request: &LlmRequest) -> bool {
        let temperature = request.json.get("temperature").and_then(serde_json::Value::as_f64);
        let seed = request.json.get("seed").is_some_and(|seed| !seed.is_null());
        self == Self::Always || temperature == Some(0.0) || seed
    }
}

/// The settings of an [`LlmCache`](crate::LlmCache).
///
/// ```
/// use std::time::Duration;
/// use terrace_agent::LlmSettings;
///
/// let settings = LlmSettings { life: Duration::from_secs(24 * 3600), ..LlmSettings::default() };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LlmSettings {
    /// The namespace of the cache; `llm`.
    pub namespace: String,
    /// Which requests use the cache; all.
    pub when: When,
    /// Which parts of a request make its key.
    pub rules: KeyRules,
    /// How long an answer is kept; one hour.
    pub life: Duration,
    /// A part of every key. Another generation begins with an empty cache; `1`.
    pub generation: String,
    /// The prices, for the money in the savings; none.
    pub prices: Prices,
    /// How long a process waits for the call of another process before it asks upstream itself; two seconds. It cannot
    /// share the first events of that call.
    pub patience: Duration,
    /// How long a call of upstream may take in all; ten minutes.
    pub deadline: Duration,
    /// The largest answer that is kept, in bytes; 1,000,000. Redis and Postgres take no copy above 1 MiB unless they are
    /// told to.
    pub max_answer_bytes: usize,
    /// How fast a kept stream is replayed; at once.
    pub replay_speed: ReplaySpeed,
}

impl Default for LlmSettings {
    fn default() -> Self {
        Self {
            namespace: "llm".to_owned(),
            when: When::default(),
            rules: KeyRules::default(),
            life: Duration::from_secs(3600),
            generation: "1".to_owned(),
            prices: Prices::default(),
            patience: Duration::from_secs(2),
            deadline: Duration::from_secs(600),
            max_answer_bytes: 1_000_000,
            replay_speed: ReplaySpeed::default(),
        }
    }
}

impl LlmSettings {
    pub(crate) fn check(&self) -> Result<()> {
        if self.life.is_zero() || self.deadline.is_zero() {
            let message = "the life of an answer and the deadline of a call are longer than zero";
            return Err(Error::config(message).in_cache(&*self.namespace));
        }
        Ok(())
    }
}
