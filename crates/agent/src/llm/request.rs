//! A request to a language model, as the cache reads it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;
use terrace::{Error, ErrorKind, Result};

/// Which form of answer a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// OpenAI's `/chat/completions`.
    Chat,
    /// OpenAI's older `/completions`.
    Completions,
    /// OpenAI's `/responses`.
    Responses,
    /// Anthropic's `/messages`.
    Messages,
    /// OpenAI's `/embeddings`.
    Embeddings,
    /// A path whose answers the cache does not understand. They are never kept.
    Other,
}

impl Endpoint {
    fn of(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
        let endings = [
            ("/chat/completions", Self::Chat),
            ("/completions", Self::Completions),
            ("/responses", Self::Responses),
            ("/messages", Self::Messages),
            ("/embeddings", Self::Embeddings),
        ];
        endings.into_iter().find(|(ending, _)| path.ends_with(ending)).map_or(Self::Other, |(_, kind)| kind)
    }
}

/// What the header `Cache-Control` of one request asks of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    pub(crate) no_cache: bool,
    pub(crate) no_store: bool,
    pub(crate) max_age: Option<Duration>,
}

impl CacheControl {
    fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for word in values.flat_map(|value| value.split(',')).map(str::trim) {
            let (name, argument) = word.split_once('=').unwrap_or((word, ""));
            match name.to_ascii_lowercase().as_str() {
                "no-cache" => control.no_cache = true,
                "no-store" => control.no_store = true,
                "max-age" => control.max_age = argument.parse().ok().map(Duration::from_secs),
                _ => {}
            }
        }
        control
    }
}

/// A request to a language model: an upstream server, a path, headers and a JSON body.
///
/// ```
/// use terrace_agent::LlmRequest;
///
/// let body = r#"{"model": "small", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}"#;
/// let request = LlmRequest::new("openai", "/v1/chat/completions", &http::HeaderMap::new(), body)?.tenant("ann");
/// assert_eq!(request.model(), Some("small"));
/// # Ok::<(), terrace::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LlmRequest {
    pub(crate) upstream: String,
    pub(crate) path: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) json: Value,
    pub(crate) tenant: String,
    pub(crate) control: CacheControl,
}

impl LlmRequest {
    /// A request to the server that the application calls `upstream`. The name is a part of the key: two servers
    /// with one name share answers. `path` may have a query. The tenant is `shared` until
    /// [`tenant`](Self::tenant) names one.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] for a body that is not a JSON object.
    ///
    /// # Cost
    /// The body is parsed once, and is not copied.
    pub fn new(
        upstream: impl Into<String>,
        path: impl Into<String>,
        headers: &HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Self> {
        let (path, body) = (path.into(), body.into());
        let json: Value = serde_json::from_slice(&body).map_err(|error| not_json(&error))?;
        if !json.is_object() {
            return Err(Error::new(ErrorKind::Key, "the body of the request is JSON, but not an object"));
        }
        Ok(Self {
            upstream: upstream.into(),
            endpoint: Endpoint::of(&path),
            path,
            headers: headers.clone(),
            body,
            json,
            tenant: "shared".to_owned(),
            control: CacheControl::of(headers),
        })
    }

    /// Sets the tenant. Tenants never see each other's answers.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// The name of the model that the request asks.
    pub fn model(&self) -> Option<&str> {
        self.json.get("model").and_then(Value::as_str)
    }

    /// Whether the request asks for a stream of events.
    pub fn streams(&self) -> bool {
        self.json.get("stream").and_then(Value::as_bool).unwrap_or(false)
    }

    /// The form of the answer.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The path as it came, with its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.json.get(field).is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
    }
}

/// The error leaves out what the body holds.
fn not_json(error: &serde_json::Error) -> Error {
    let place = format!("line {}, column {}", error.line(), error.column());
    Error::new(ErrorKind::Key, format!("the body of the request is not JSON ({place})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_the_path_says_the_form_of_the_answer() {
        assert_eq!(Endpoint::of("/v1/chat/completions"), Endpoint::Chat);
        assert_eq!(Endpoint::of("/openai/deployments/x/completions?api-version=1"), Endpoint::Completions);
        assert_eq!(Endpoint::of("/v1/messages/"), Endpoint::Messages);
        assert_eq!(Endpoint::of("/v1/messages/count_tokens"), Endpoint::Other);
    }

    #[test]
    fn an_error_of_a_body_shows_its_place_and_none_of_its_text() {
        let error = LlmRequest::new("u", "/", &HeaderMap::new(), "{\n secret").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
        assert!(LlmRequest::new("u", "/", &HeaderMap::new(), "[1]").is_err());
        assert!(LlmRequest::new("u", "/", &HeaderMap::new(), "").is_err());
    }

    #[test]
    fn cache_control_is_read_in_any_spelling() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, "No-Cache, max-age=60".parse().unwrap());
        let control = CacheControl::of(&headers);
        assert!(control.no_cache && !control.no_store);
        assert_eq!(control.max_age, Some(Duration::from_secs(60)));
    }
}
