//! The reply to one caller: a status, headers and a stream of bytes, and where they come from.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use terrace::{Cached, Digest, Error, Result};

use super::{
    answer::{Answer, AnswerBody},
    recording::{Head, Next, Recording},
};

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The cache had the answer.
    Hit,
    /// Upstream was asked. The answer is kept if it may be.
    Miss,
    /// The request shares a call of upstream that is under way.
    Joined,
    /// Upstream was asked past the cache.
    Bypass(Bypass),
}

/// Why a request went past the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bypass {
    /// The cache does not know the form of the answers of this path.
    Endpoint,
    /// The request says `Cache-Control: no-store`.
    NoStore,
    /// The answer depends on state of the provider: `previous_response_id`, `conversation` or `background`.
    Stateful,
    /// The settings let deterministic requests alone use the cache.
    NotDeterministic,
    /// The request holds an integer of 2^53 or more, which canonical JSON cannot tell from its neighbours.
    Number,
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint => "endpoint",
            Self::NoStore => "no-store",
            Self::Stateful => "stateful",
            Self::NotDeterministic => "not-deterministic",
            Self::Number => "number",
        })
    }
}

/// Shows the outcome as the header `x-terrace-cache` does.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit => f.write_str("hit"),
            Self::Miss => f.write_str("miss"),
            Self::Joined => f.write_str("joined"),
            Self::Bypass(reason) => write!(f, "bypass; reason={reason}"),
        }
    }
}

/// How fast a kept stream is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplaySpeed {
    /// At once.
    #[default]
    Immediate,
    /// With the pauses that were recorded.
    Recorded,
}

/// The answer to one request, as a stream of bytes. An error of the stream says that the answer is not whole.
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    outcome: Outcome,
    key: Option<Digest>,
    age: Option<Duration>,
    body: BoxStream<'static, Result<Bytes>>,
}

impl Reply {
    /// The status of upstream.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers of upstream. An answer out of the cache has its type alone.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// How the request was answered.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The key of the request; none where the cache did not look at it.
    pub fn key(&self) -> Option<Digest> {
        self.key
    }

    /// The time since upstream was asked, for an answer out of the cache.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// The whole body.
    ///
    /// # Errors
    /// The error of upstream, where its answer is not whole.
    pub async fn bytes(self) -> Result<Bytes> {
        let whole = self.body.try_fold(BytesMut::new(), |mut whole, part| async move {
            whole.extend_from_slice(&part);
            Ok(whole)
        });
        whole.await.map(BytesMut::freeze)
    }

    pub(crate) fn of_kept(
        answer: &Cached<Answer>,
        key: Digest,
        now_ms: u64,
        replay_speed: ReplaySpeed,
    ) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in &answer.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        Self {
            status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK),
            headers,
            outcome: Outcome::Hit,
            key: Some(key),
            age: Some(Duration::from_millis(now_ms.saturating_sub(answer.asked_at))),
            body: replay(answer.clone(), replay_speed),
        }
    }

    pub(crate) fn of_recording(
        recording: Arc<Recording>,
        head: Head,
        outcome: Outcome,
        key: Option<Digest>,
    ) -> Self {
        let parts = stream::unfold(Some((recording, 0)), |state| async move {
            let (recording, at) = state?;
            match recording.next(at).await {
                Next::Part(part) => Some((Ok(part), Some((recording, at + 1)))),
                Next::End(Ok(())) => None,
                Next::End(Err(error)) => Some((Err(error), None)),
            }
        });
        let Head { status, headers } = head;
        Self { status, headers, outcome, key, age: None, body: parts.boxed() }
    }

    pub(crate) fn of_upstream(
        head: Head,
        reason: Bypass,
        body: BoxStream<'static, Result<Bytes, terrace::BoxError>>,
    ) -> Self {
        let Head { status, headers } = head;
        let body = body.map_err(Error::load).boxed();
        Self { status, headers, outcome: Outcome::Bypass(reason), key: None, age: None, body }
    }
}

fn replay(answer: Cached<Answer>, replay_speed: ReplaySpeed) -> BoxStream<'static, Result<Bytes>> {
    match &answer.body {
        AnswerBody::Whole(body) => stream::iter([Ok(body.clone())]).boxed(),
        AnswerBody::Events(events) if replay_speed == ReplaySpeed::Immediate => {
            let events: Vec<_> = events.iter().map(|(_, event)| Ok(event.clone())).collect();
            stream::iter(events).boxed()
        }
        AnswerBody::Events(_) => {
            let began = Instant::now();
            stream::unfold((answer, 0), move |(answer, at)| async move {
                let AnswerBody::Events(events) = &answer.body else { return None };
                let (ms, event) = events.get(at)?.clone();
                let pause = Duration::from_millis(ms.into()).saturating_sub(began.elapsed());
                tokio::time::sleep(pause).await;
                Some((Ok(event), (answer, at + 1)))
            })
            .boxed()
        }
    }
}

impl Stream for Reply {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.poll_next_unpin(context)
    }
}

/// Leaves out the body.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("outcome", &self.outcome)
            .field("key", &self.key)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}
