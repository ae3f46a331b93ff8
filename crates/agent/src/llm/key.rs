//! The key of a request: all of it but for what cannot change the answer.

use serde_json::Value;
use terrace::Digest;

use super::request::LlmRequest;
use crate::{hash::PartHasher, json::canonical};

/// Fields of the body that say who asks and what for, and do not change what the model answers.
const EXCLUDED_FIELDS: [&str; 6] =
    ["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"];

/// Headers that change the answer.
const HEADERS: [&str; 4] = ["anthropic-version", "anthropic-beta", "openai-beta", "openai-organization"];

/// Which parts of a request make its key: the whole body less some fields, and some headers.
///
/// Without changes the excluded fields are `user`, `metadata`, `store`, `safety_identifier`, `prompt_cache_key` and
/// `service_tier`, and the headers are `anthropic-version`, `anthropic-beta`, `openai-beta` and
/// `openai-organization`. A field that nobody thought of is a part of the key, so that it costs a hit and never a
/// wrong answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRules {
    excluded: Vec<String>,
    headers: Vec<String>,
}

impl Default for KeyRules {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { excluded: owned(&EXCLUDED_FIELDS), headers: owned(&HEADERS) }
    }
}

impl KeyRules {
    /// Leaves a top-level field of the body out of the key: requests that differ in it alone get one answer.
    #[must_use]
    pub fn without_field(mut self, name: impl Into<String>) -> Self {
        self.excluded.push(name.into());
        self
    }

    /// Takes a top-level field of the body into the key again.
    #[must_use]
    pub fn with_field(mut self, name: &str) -> Self {
        self.excluded.retain(|excluded| excluded != name);
        self
    }

    /// Takes a header into the key.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push(name.into().to_ascii_lowercase());
        self
    }

    /// The key, or `None` for a request with a number that its canonical form cannot tell from another one.
    pub(crate) fn key(&self, request: &LlmRequest, generation: &str, of_model: u64) -> Option<Digest> {
        let Value::Object(fields) = &request.json else { return None };
        let body = fields.iter().filter(|(name, _)| !self.excluded.contains(name));
        let body = Value::Object(body.map(|(name, value)| (name.clone(), value.clone())).collect());
        let mut hasher = PartHasher::new("terrace llm request 1");
        hasher.part(request.upstream.as_bytes());
        hasher.part(request.path.as_bytes());
        hasher.part(&canonical(&body)?);
        for name in &self.headers {
            hasher.part(name.as_bytes());
            let values: Vec<_> = request.headers.get_all(name.as_str()).iter().collect();
            hasher.part(&(values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| hasher.part(value.as_bytes()));
        }
        hasher.part(generation.as_bytes());
        hasher.part(&of_model.to_le_bytes());
        Some(hasher.digest())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const FULL: &str = r#"{
        "model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.7, "top_p": 1,
        "n": 1, "stream": false, "stream_options": {"include_usage": true}, "stop": ["x"], "max_tokens": 5,
        "max_completion_tokens": 6, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {"5": 1},
        "logprobs": true, "top_logprobs": 2, "seed": 7, "tools": [{"type": "function"}],
        "tool_choice": "auto", "parallel_tool_calls": true, "response_format": {"type": "text"},
        "reasoning_effort": "low", "modalities": ["text"], "prediction": {"type": "content"}, "verbosity": "low",
        "user": "u", "metadata": {"a": "b"}, "store": false, "safety_identifier": "s",
        "prompt_cache_key": "p", "service_tier": "auto"
    }"#;

    fn key_of(body: &Value, headers: &HeaderMap) -> Digest {
        let request = LlmRequest::new("up", "/v1/chat/completions", headers, body.to_string()).unwrap();
        KeyRules::default().key(&request, "1", 0).unwrap()
    }

    #[test]
    fn every_field_changes_the_key_and_every_excluded_one_does_not() {
        let full: Value = serde_json::from_str(FULL).unwrap();
        let headers = HeaderMap::new();
        let key = key_of(&full, &headers);
        let mut in_key = 0;
        for name in full.as_object().unwrap().keys() {
            let mut changed = full.clone();
            changed[name] = "another".into();
            let mut missing = full.clone();
            missing.as_object_mut().unwrap().remove(name);
            let excluded = EXCLUDED_FIELDS.contains(&name.as_str());
            assert_eq!(key_of(&changed, &headers) == key, excluded, "{name} changed");
            assert_eq!(key_of(&missing, &headers) == key, excluded, "{name} missing");
            in_key += usize::from(!excluded);
        }
        assert_eq!(in_key, 24);
    }

    #[test]
    fn omitted_is_not_zero_and_spelling_does_not_matter() {
        let headers = HeaderMap::new();
        let key = |text: &str| key_of(&serde_json::from_str(text).unwrap(), &headers);
        assert_ne!(key(r#"{"model":"m"}"#), key(r#"{"model":"m","temperature":0}"#));
        assert_ne!(key(r#"{"model":"m"}"#), key(r#"{"model":"m","temperature":null}"#));
        assert_eq!(key(r#"{"model":"m","temperature":1}"#), key(r#"{"temperature":1.0, "model":"m"}"#));
        assert_ne!(key(r#"{"model":"m","x":"1"}"#), key(r#"{"model":"m","x":1}"#));
    }

    #[test]
    fn upstream_path_headers_and_generations_are_in_the_key() {
        let headers = HeaderMap::new();
        let request = |upstream, path| LlmRequest::new(upstream, path, &headers, r#"{"model":"m"}"#).unwrap();
        let rules = KeyRules::default();
        let key = rules.key(&request("a", "/v1/messages"), "1", 0);
        assert_ne!(key, rules.key(&request("b", "/v1/messages"), "1", 0));
        assert_ne!(key, rules.key(&request("a", "/v2/messages"), "1", 0));
        assert_ne!(key, rules.key(&request("a", "/v1/messages"), "2", 0));
        assert_ne!(key, rules.key(&request("a", "/v1/messages"), "1", 1));
        let mut other = headers.clone();
        other.insert("anthropic-beta", "x".parse().unwrap());
        let with_beta = LlmRequest::new("a", "/v1/messages", &other, r#"{"model":"m"}"#).unwrap();
        assert_ne!(key, rules.key(&with_beta, "1", 0));
        let mut login = headers.clone();
        login.insert("authorization", "Bearer x".parse().unwrap());
        let with_login = LlmRequest::new("a", "/v1/messages", &login, r#"{"model":"m"}"#).unwrap();
        assert_eq!(key, rules.key(&with_login, "1", 0));
    }
}
