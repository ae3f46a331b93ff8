//! The cache as a layer of tower, over any client of `http::Request`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use terrace::{BoxError, Error};
use tower_layer::Layer;
use tower_service::Service;

use super::{LlmCache, LlmRequest, Reply};

/// Puts an [`LlmCache`] before a client: a service of `http::Request<Bytes>` whose answers have any body.
///
/// Requests that are not `POST` with a JSON object go to the client as they are, and so do those that the cache does not
/// take.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use terrace::config::{Config, Stack};
/// use terrace_agent::{LlmCache, LlmSettings, llm::LlmLayer};
/// use tower_layer::Layer;
/// use tower_service::Service;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), terrace::BoxError> {
/// # #[derive(Clone)] struct Client;
/// # impl Service<Request<Bytes>> for Client {
/// #     type Response = Response<Full<Bytes>>; type Error = std::io::Error;
/// #     type Future = std::future::Ready<Result<Self::Response, std::io::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), std::io::Error>> {
/// #         std::task::Poll::Ready(Ok(()))
/// #     }
/// #     fn call(&mut self, _: Request<Bytes>) -> Self::Future {
/// #         let answer = r#"{"choices": [{"finish_reason": "stop", "message": {"content": "Hi"}}]}"#;
/// #         std::future::ready(Ok(Response::new(Full::from(answer))))
/// #     }
/// # }
/// let cache = LlmCache::new(&Stack::new(&Config::in_memory())?, LlmSettings::default())?;
/// let mut client = LlmLayer::new(cache, "openai").layer(Client);
/// let body = Bytes::from(r#"{"model": "small", "messages": []}"#);
/// let request = || Request::post("/v1/chat/completions").body(body.clone());
/// let first = client.call(request()?).await?.into_body().collect().await?.to_bytes();
/// let second = client.call(request()?).await?;
/// assert_eq!(second.headers()["x-terrace-cache"], "hit");
/// assert_eq!(second.into_body().collect().await?.to_bytes(), first);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LlmLayer {
    cache: LlmCache,
    upstream: String,
}

impl LlmLayer {
    /// A layer before the server that the application calls `upstream`, which is a part of each key.
    pub fn new(cache: LlmCache, upstream: impl Into<String>) -> Self {
        Self { cache, upstream: upstream.into() }
    }
}

impl<C> Layer<C> for LlmLayer {
    type Service = LlmService<C>;

    fn layer(&self, client: C) -> LlmService<C> {
        LlmService { layer: self.clone(), client }
    }
}

/// A client behind the cache.
#[derive(Clone, Debug)]
pub struct LlmService<C> {
    layer: LlmLayer,
    client: C,
}

impl<C, B> Service<Request<Bytes>> for LlmService<C>
where
    C: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<ReplyBody>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        // The client that is ready is taken, and a clone that is not takes its place.
        let next = self.client.clone();
        let mut client = std::mem::replace(&mut self.client, next);
        let LlmLayer { cache, upstream } = self.layer.clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let read = match *request.method() {
            Method::POST => LlmRequest::new(upstream, path, request.headers(), request.body().clone()).ok(),
            _ => None,
        };
        async move {
            let Some(read) = read else {
                let answer = client.call(request).await.map_err(Into::into)?;
                return Ok(answer.map(|body| ReplyBody(body.map_err(Into::into).boxed_unsync())));
            };
            let call = move || {
                client.call(request).map(|answer| {
                    let answer = answer.map_err(Into::into)?;
                    Ok::<_, BoxError>(answer.map(|body| body.into_data_stream().map_err(Into::into)))
                })
            };
            Ok(response_of(cache.call(&read, call).await?))
        }
        .boxed()
    }
}

/// The response to a reply, with the header `x-terrace-cache`.
fn response_of(reply: Reply) -> Response<ReplyBody> {
    let outcome = reply.outcome().to_string();
    let mut response = Response::new(());
    *response.status_mut() = reply.status();
    *response.headers_mut() = reply.headers().clone();
    if let Ok(outcome) = outcome.parse() {
        response.headers_mut().insert("x-terrace-cache", outcome);
    }
    let frames = reply.map(|part| part.map(Frame::data).map_err(|error: Error| BoxError::from(error)));
    response.map(|()| ReplyBody(http_body_util::StreamBody::new(frames).boxed_unsync()))
}

/// The body of a response behind the cache.
#[derive(Debug)]
pub struct ReplyBody(http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>);

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }
}
