//! Sends requests to an upstream server.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use terrace::{BoxError, Error, Result};

use crate::respond::{self, failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection, and those that the proxy sets itself. The answer must not be compressed, since
/// the cache reads it.
const NOT_FORWARDED: [header::HeaderName; 9] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The client of all upstream servers. It follows no redirect: a credential must not reach another host.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder(reqwest::Client);

impl Forwarder {
    pub(crate) fn new() -> Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build();
        client.map(Self).map_err(|error| Error::config("the HTTP client cannot be made").with_source(error))
    }

    /// The call of upstream for a request whose answer may be kept.
    pub(crate) fn call(
        &self,
        headers: HeaderMap,
        target: &str,
        body: Bytes,
    ) -> impl FnOnce() -> futures_util::future::BoxFuture<
        'static,
        Result<axum::http::Response<BodyStream>, BoxError>,
    > + Send
    + 'static {
        let request = self.0.post(target).headers(forwarded(headers)).body(body);
        move || {
            Box::pin(async move {
                let answer = request.send().await.map_err(without_url)?;
                let mut response = axum::http::Response::new(());
                *response.status_mut() = answer.status();
                *response.headers_mut() = answer.headers().clone();
                let body: BodyStream = Box::pin(answer.bytes_stream().map_err(without_url));
                Ok(response.map(|()| body))
            })
        }
    }

    /// Passes a request on that the cache does not look at, and its answer back, both as they come.
    pub(crate) async fn pass(&self, route: &str, parts: Parts, target: &str, body: Body) -> Response {
        let body = reqwest::Body::wrap_stream(body.into_data_stream());
        let mut request = self.0.request(parts.method.clone(), target).headers(forwarded(parts.headers));
        if !matches!(parts.method.as_str(), "GET" | "HEAD") {
            request = request.body(body);
        }
        match request.send().await {
            Ok(answer) => respond::passed(answer),
            Err(error) => {
                let error = error.without_url();
                tracing::debug!(cache = "llm", route, %error, "a request had no answer of upstream");
                let message = format!("the server of the route {route} gave no answer: {error}");
                failure(StatusCode::BAD_GATEWAY, "api_error", &message)
            }
        }
    }
}

/// The bytes of an answer as they come.
pub(crate) type BodyStream =
    std::pin::Pin<Box<dyn Stream<Item = std::result::Result<Bytes, BoxError>> + Send + 'static>>;

/// A URL may hold what the caller put into its query.
fn without_url(error: reqwest::Error) -> BoxError {
    error.without_url().into()
}

fn forwarded(mut headers: HeaderMap) -> HeaderMap {
    NOT_FORWARDED.iter().for_each(|name| _ = headers.remove(name));
    headers.remove("keep-alive");
    headers
}
