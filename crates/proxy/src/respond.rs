//! Responses to callers.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use terrace_agent::Reply;

const CACHE: &str = "x-terrace-cache";

/// The response to a reply of the cache: `x-terrace-cache` says where it comes from, `age` how old it is, and
/// `x-terrace-key` which entry it is.
pub(crate) fn reply(reply: Reply) -> Response {
    let mut headers = reply.headers().clone();
    set(&mut headers, CACHE, &reply.outcome().to_string());
    if let Some(age) = reply.age() {
        set(&mut headers, "age", &age.as_secs().to_string());
    }
    if let Some(key) = reply.key() {
        set(&mut headers, "x-terrace-key", &key.to_string());
    }
    let status = reply.status();
    let mut response = Response::new(Body::from_stream(reply));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The response to an answer that passes by the cache.
pub(crate) fn passed(answer: reqwest::Response) -> Response {
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE] {
        headers.remove(name);
    }
    set(&mut headers, CACHE, "bypass; reason=endpoint");
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An error of the proxy itself, in a form that the clients of both providers read.
pub(crate) fn failure(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = serde_json::json!({"type": "error", "error": {"type": kind, "message": message}});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    set(response.headers_mut(), "content-type", "application/json");
    set(response.headers_mut(), CACHE, "bypass; reason=error");
    response
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
