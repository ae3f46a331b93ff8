//! The proxy: its routes, and the way of one request.

use std::{collections::BTreeMap, error::Error as _, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use terrace::{Error, ErrorKind, Result, config::Stack};
use terrace_agent::{LlmCache, LlmRequest, llm::Endpoint};

use crate::{
    forward::Forwarder,
    respond::{self, failure},
    settings::{Scope, Settings},
    status,
};

/// The headers in which a caller may send its credential.
const CREDENTIALS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// A proxy over a stack of tiers. It is a handle.
#[derive(Clone, Debug)]
pub struct Proxy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cache: LlmCache,
    upstreams: BTreeMap<String, String>,
    scope: Scope,
    max_body_bytes: usize,
    forwarder: Forwarder,
}

impl Proxy {
    /// A proxy with these settings, whose answers are kept in the tiers of `stack`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot work.
    ///
    /// # Cost
    /// It reads the file of prices, and makes no trip.
    pub fn new(stack: &Stack, settings: &Settings) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            upstreams: settings.upstreams()?,
            cache: LlmCache::new(stack, settings.llm()?)?,
            scope: settings.scope,
            max_body_bytes: settings.max_body_bytes,
            forwarder: Forwarder::new()?,
        })))
    }

    /// The service: `/{route}/..` for each upstream server, and `/stats`, `/metrics`, `/healthz`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/stats", get(status::stats))
            .route("/metrics", get(status::metrics))
            .route("/healthz", get(status::healthz))
            .fallback(answer)
            .with_state(self.clone())
    }

    /// The cache of answers.
    pub fn cache(&self) -> &LlmCache {
        &self.0.cache
    }

    /// The route and the rest of the path.
    fn route<'a>(&self, path: &'a str) -> Option<(&str, &str, &'a str)> {
        let path = path.strip_prefix('/')?;
        let end = path.find(['/', '?']).unwrap_or(path.len());
        let (name, url) = self.0.upstreams.get_key_value(&path[..end])?;
        Some((name, url, &path[end..]))
    }
}

async fn answer(State(proxy): State<Proxy>, request: Request<Body>) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Some((route, url, rest)) = proxy.route(&path) else {
        let routes: Vec<&str> = proxy.0.upstreams.keys().map(String::as_str).collect();
        let message =
            format!("no route of this proxy begins the path; the routes are: /{}", routes.join(", /"));
        return failure(StatusCode::NOT_FOUND, "not_found_error", &message);
    };
    let target = format!("{url}{rest}");
    let (parts, body) = request.into_parts();
    let empty = LlmRequest::new(route, rest, &HeaderMap::new(), "{}");
    let is_known = empty.is_ok_and(|request| request.endpoint() != Endpoint::Other);
    if parts.method != Method::POST || !is_known {
        return proxy.0.forwarder.pass(route, parts, &target, body).await;
    }
    let body = match read(body, &parts.headers, proxy.0.max_body_bytes).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let llm_request = match LlmRequest::new(route, rest, &parts.headers, body.clone()) {
        Ok(request) => request.tenant(tenant(&parts.headers, proxy.0.scope)),
        Err(error) => return failure(StatusCode::BAD_REQUEST, "invalid_request_error", &error.to_string()),
    };
    let call = proxy.0.forwarder.call(parts.headers, &target, body);
    match proxy.0.cache.call(&llm_request, call).await {
        Ok(reply) => respond::reply(reply),
        Err(error) => of_error(route, &error),
    }
}

/// The body, or the answer to a caller whose body cannot be taken.
async fn read(body: Body, headers: &HeaderMap, most: usize) -> Result<Bytes, Box<Response>> {
    let too_large = || {
        let message = format!("the body of the request is longer than {most} bytes, the limit of this proxy");
        Box::new(failure(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &message))
    };
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    axum::body::to_bytes(body, most).await.map_err(|error| {
        // The other error is that the caller went away, and nobody reads the answer.
        match error.source().is_some_and(|source| source.to_string().contains("length limit")) {
            true => too_large(),
            false => Box::new(failure(
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                "the body of the request broke off",
            )),
        }
    })
}

/// The tenant of a caller: a hash of its credential, from which the credential cannot be computed.
fn tenant(headers: &HeaderMap, scope: Scope) -> String {
    if scope == Scope::Shared {
        return "shared".to_owned();
    }
    let mut hasher = blake3::Hasher::new_derive_key("terrace-proxy 1 tenant of a credential");
    for name in CREDENTIALS {
        for value in headers.get_all(name) {
            hasher.update(name.as_bytes());
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value.as_bytes());
        }
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The answer where upstream gave none.
fn of_error(route: &str, error: &Error) -> Response {
    let (status, kind) = match error.kind() {
        ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout_error"),
        ErrorKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, "overloaded_error"),
        ErrorKind::Load => (StatusCode::BAD_GATEWAY, "api_error"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "api_error"),
    };
    // The caller is told; a line for each request would flood the log of an outage.
    tracing::debug!(cache = "llm", route, %error, "a request had no answer of upstream");
    let message = format!("the server of the route {route} gave no answer: {error}");
    failure(status, kind, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_differs_by_credential_and_shows_nothing_of_it() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            tenant(&headers, Scope::Credential)
        };
        let one = with("authorization", "Bearer sk-1");
        assert_ne!(one, with("authorization", "Bearer sk-2"));
        assert_ne!(one, with("x-api-key", "Bearer sk-1"));
        assert_ne!(one, tenant(&HeaderMap::new(), Scope::Credential));
        assert_eq!(one, with("authorization", "Bearer sk-1"));
        assert!(!one.contains("sk-1") && one.len() == 32);
        assert_eq!(tenant(&HeaderMap::new(), Scope::Shared), "shared");
    }
}
