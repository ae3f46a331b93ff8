//! Fills the cache from a list of requests.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::Response;
use terrace::{BoxError, Error};

use super::{LlmCache, LlmRequest, Outcome};

/// What became of the requests of one warm-up.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Warmed {
    /// Requests whose answer was there already.
    pub present: usize,
    /// Requests whose answer came from upstream, and is whole and of success. It is kept if it may be.
    pub loaded: usize,
    /// Requests whose answer was an error of upstream, or not whole.
    pub failed: usize,
    /// The error of the first request that failed, if it had one.
    pub first_error: Option<Error>,
}

impl LlmCache {
    /// Asks `upstream` for each request that the cache cannot answer, at most `at_once` at a time, and waits for all
    /// answers. Requests that occur twice make one call.
    ///
    /// # Cost
    /// One lookup for each request, and the calls of upstream.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use futures_util::stream;
    /// # use terrace::config::{Config, Stack};
    /// # use terrace_agent::{LlmCache, LlmRequest, LlmSettings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> terrace::Result<()> {
    /// # let cache = LlmCache::new(&Stack::new(&Config::in_memory())?, LlmSettings::default())?;
    /// # let body = r#"{"model": "small", "input": "Hi"}"#;
    /// let request = LlmRequest::new("openai", "/v1/embeddings", &http::HeaderMap::new(), body)?;
    /// let ask = |_request: LlmRequest| async {
    ///     let body = stream::iter([Ok(Bytes::from(r#"{"data": [{"embedding": [0.5]}]}"#))]);
    ///     Ok::<_, std::io::Error>(http::Response::new(body))
    /// };
    /// let warmed = cache.warm(vec![request.clone(), request], 8, ask).await;
    /// assert_eq!(warmed.loaded + warmed.present, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn warm<F, Fut, S, E>(&self, requests: Vec<LlmRequest>, at_once: usize, upstream: F) -> Warmed
    where
        F: Fn(LlmRequest) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<S>, E>> + Send + 'static,
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let calls = requests.into_iter().map(|request| {
            let (upstream, asked) = (upstream.clone(), request.clone());
            async move {
                let reply = self.call(&request, move || upstream(asked)).await?;
                let (outcome, status) = (reply.outcome(), reply.status());
                reply.bytes().await.map(|_| (outcome, status))
            }
        });
        let calls: Vec<_> = calls.collect();
        let mut ended = stream::iter(calls).buffer_unordered(at_once.max(1));
        let mut warmed = Warmed::default();
        while let Some(answer) = ended.next().await {
            match answer {
                Ok((Outcome::Hit, _)) => warmed.present += 1,
                Ok((_, status)) if status.is_success() => warmed.loaded += 1,
                Ok(_) => warmed.failed += 1,
                Err(error) => {
                    warmed.failed += 1;
                    warmed.first_error.get_or_insert(error);
                }
            }
        }
        warmed
    }
}
