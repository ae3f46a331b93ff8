//! The call of upstream without its types, and its headers.

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, future::BoxFuture, stream::BoxStream};
use http::{HeaderMap, Response, header};
use terrace::BoxError;

use super::recording::Head;

pub(crate) type Body = BoxStream<'static, Result<Bytes, BoxError>>;

/// A call of upstream, which is made at most once.
pub(crate) type Upstream = Box<dyn FnOnce() -> BoxFuture<'static, Result<(Head, Body), BoxError>> + Send>;

pub(crate) fn boxed<F, Fut, S, E>(upstream: F) -> Upstream
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Response<S>, E>> + Send + 'static,
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    Box::new(move || {
        upstream()
            .map(|answer| {
                let (parts, body) = answer.map_err(Into::into)?.into_parts();
                let head = Head { status: parts.status, headers: end_to_end(parts.headers) };
                Ok((head, body.map_err(Into::into).boxed()))
            })
            .boxed()
    })
}

/// The headers that are meant for the caller and not for one connection. The length is left out, since the body is
/// sent as a stream.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<String> =
        named.flat_map(|names| names.split(',')).map(|name| name.trim().to_owned()).collect();
    let fixed = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::PROXY_AUTHENTICATE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    fixed.iter().for_each(|name| _ = headers.remove(name));
    named.iter().chain(&["keep-alive".to_owned()]).for_each(|name| _ = headers.remove(name));
    headers
}
