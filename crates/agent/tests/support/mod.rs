//! A fake upstream in the process, and data that tests share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers of tests, which not every test uses"
)]

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream, stream::BoxStream};
use http::{HeaderMap, Response};
use terrace::config::{Config, Stack};
use terrace_agent::{LlmCache, LlmRequest, LlmSettings};

pub type Body = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// Answers with events, one after each pause.
#[derive(Clone)]
pub struct Upstream {
    pub calls: Arc<AtomicUsize>,
    pub events: Arc<Vec<String>>,
    pub pause: Duration,
    /// After how many events the connection breaks.
    pub cut_at: Option<usize>,
    pub status: u16,
}

impl Upstream {
    pub fn new() -> Self {
        let content = |text: &str| {
            format!(r#"{{"model":"m-1","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#)
        };
        let mut events: Vec<String> = ["The", " sky", " scatters", " blue", " light"].map(content).into();
        events.push(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.into());
        events.push(r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#.into());
        events.push("[DONE]".into());
        let events = events.into_iter().map(|data| format!("data: {data}\n\n")).collect();
        let (calls, pause) = (Arc::default(), Duration::from_millis(5));
        Self { calls, events: Arc::new(events), pause, cut_at: None, status: 200 }
    }

    pub fn whole(&self) -> String {
        self.events.concat()
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// One call.
    pub fn ask(
        &self,
    ) -> impl FnOnce() -> BoxFuture<'static, Result<Response<Body>, std::io::Error>> + Send + 'static {
        let upstream = self.clone();
        move || {
            Box::pin(async move {
                upstream.calls.fetch_add(1, Ordering::SeqCst);
                let (pause, cut_at) = (upstream.pause, upstream.cut_at);
                let events = (*upstream.events).clone().into_iter().enumerate();
                let events = stream::iter(events).then(move |(at, event)| async move {
                    tokio::time::sleep(pause).await;
                    match cut_at {
                        Some(cut) if at >= cut => Err(std::io::Error::other("the connection broke")),
                        _ => Ok(Bytes::from(event)),
                    }
                });
                // Nothing follows an error.
                let mut broken = false;
                let events = events.take_while(move |event| {
                    let goes_on = !broken;
                    broken |= event.is_err();
                    std::future::ready(goes_on)
                });
                let response = Response::builder().status(upstream.status);
                let response =
                    response.header("content-type", "text/event-stream").header("x-request-id", "one");
                Ok(response.body(events.boxed()).unwrap())
            })
        }
    }
}

pub fn request(prompt: &str) -> LlmRequest {
    request_with(prompt, &HeaderMap::new())
}

pub fn request_with(prompt: &str, headers: &HeaderMap) -> LlmRequest {
    let body = serde_json::json!({
        "model": "m", "stream": true, "messages": [{"role": "user", "content": prompt}]
    });
    LlmRequest::new("fake", "/v1/chat/completions", headers, body.to_string()).unwrap()
}

pub fn memory() -> Stack {
    Stack::new(&Config::in_memory()).unwrap()
}

pub fn cache(stack: &Stack) -> LlmCache {
    LlmCache::new(stack, LlmSettings::default()).unwrap()
}

/// A file of the folder that `TERRACE_DATA` names, unpacked. `None`, and a line that says so, without the variable.
pub fn data(name: &str) -> Option<Vec<u8>> {
    let Some(folder) = std::env::var_os("TERRACE_DATA") else {
        println!("left out: TERRACE_DATA names no folder with {name}");
        return None;
    };
    let bytes = std::fs::read(std::path::Path::new(&folder).join(name)).unwrap();
    if !name.ends_with(".gz") {
        return Some(bytes);
    }
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
    Some(text)
}
