//! Fifty callers ask a slow model the same thing at once, and again: one call, and what it saved.
//!
//! The model is a function that answers a stream of events, as a compatible server does.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::join_all, stream};
use http::{HeaderMap, HeaderValue, Response};
use terrace::{
    BoxError,
    config::{Config, Stack},
};
use terrace_agent::{
    LlmCache, LlmRequest, LlmSettings,
    llm::{Outcome, Prices},
};

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// A word every 20 ms, the usage, and the mark of the end.
async fn model() -> std::io::Result<Response<impl Stream<Item = std::io::Result<Bytes>>>> {
    CALLS.fetch_add(1, Ordering::SeqCst);
    let words = ["Air", " scatters", " blue", " light", " most."];
    let word = |word: &str| format!(r#"{{"choices": [{{"index": 0, "delta": {{"content": "{word}"}}}}]}}"#);
    let mut events: Vec<String> = words.map(word).into();
    events.push(r#"{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}"#.to_owned());
    let usage = r#"{"prompt_tokens": 900, "completion_tokens": 300, "prompt_tokens_details": {"cached_tokens": 400}}"#;
    events.push(format!(r#"{{"choices": [], "usage": {usage}}}"#));
    events.push("[DONE]".to_owned());
    let events = stream::iter(events).then(|data| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Bytes::from(format!("data: {data}\n\n")))
    });
    let mut response = Response::new(events.boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let prices = Prices::from_toml("[models.small]\ninput = 2.0\ncached_input = 1.0\noutput = 8.0\n")?;
    let stack = Stack::new(&Config::in_memory().with_env()?)?;
    let cache = LlmCache::new(&stack, LlmSettings { prices, ..LlmSettings::default() })?;
    let body = r#"{"model": "small", "stream": true, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}"#;
    let request = LlmRequest::new("fake", "/v1/chat/completions", &HeaderMap::new(), body)?;
    for round in ["at once", "again"] {
        let began = Instant::now();
        let ask = async || {
            let mut reply = cache.call(&request, model).await?;
            let outcome = reply.outcome();
            let mut first = None;
            while let Some(event) = reply.next().await {
                event?;
                first.get_or_insert(began.elapsed());
            }
            Ok::<_, terrace::Error>((outcome, first.unwrap_or_default()))
        };
        let answers = join_all((0..50).map(|_| ask())).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let count = |expected: Outcome| answers.iter().filter(|(outcome, _)| *outcome == expected).count();
        let slowest = answers.iter().map(|(_, first)| *first).max().unwrap_or_default();
        println!(
            "{round}: {} miss, {} joined, {} hits; the last first event came after {slowest:?}",
            count(Outcome::Miss),
            count(Outcome::Joined),
            count(Outcome::Hit)
        );
    }
    println!("the model was called {} time", CALLS.load(Ordering::SeqCst));
    for model in cache.savings().await? {
        println!(
            "{}: {} tokens used, {} avoided; spent ${:.4}, saved ${:.4}",
            model.model,
            model.used.input + model.used.cached_input + model.used.output,
            model.avoided.input + model.avoided.cached_input + model.avoided.output,
            model.spent.unwrap_or_default(),
            model.saved.unwrap_or_default()
        );
    }
    cache.close().await?;
    Ok(())
}
