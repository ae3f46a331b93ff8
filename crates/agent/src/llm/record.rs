//! Makes the call of upstream: its answer goes to the callers part by part, and is judged at its end.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header;
use terrace::Error;

use super::{
    LlmSettings,
    answer::{Answer, AnswerBody, KEPT_HEADERS},
    events::EventSplitter,
    judge::{self, Judgement, NotKept},
    recording::{Begun, Head, Recording},
    request::Endpoint,
    savings::{Count, ModelCounts},
    upstream::{Body, Upstream},
};

/// One call of upstream, as far as it is the same for every way of making it.
pub(super) struct Recorder {
    pub(super) recording: Arc<Recording>,
    pub(super) endpoint: Endpoint,
    pub(super) max_answer_bytes: usize,
    pub(super) counts: Arc<ModelCounts>,
}

impl Recorder {
    pub(super) fn new(
        recording: &Arc<Recording>,
        endpoint: Endpoint,
        settings: &LlmSettings,
        counts: &Arc<ModelCounts>,
    ) -> Self {
        Self {
            recording: Arc::clone(recording),
            endpoint,
            max_answer_bytes: settings.max_answer_bytes,
            counts: Arc::clone(counts),
        }
    }

    /// Makes the call, and gives the answer if it may be kept.
    ///
    /// # Errors
    /// Why the answer is not kept. The callers get what upstream sent, and an error if that is not whole.
    pub(super) async fn record(self, upstream: Upstream) -> Result<Answer, NotKept> {
        let asked_at = now_ms();
        self.counts.add(Count::Misses, 1);
        let (head, body) = match upstream().await {
            Ok(answer) => answer,
            Err(error) => {
                self.recording.upstream_ended(Err(Error::load(error)));
                return Err(NotKept::Failed);
            }
        };
        let is_stream = is_event_stream(&head);
        self.recording.begin(Begun::Upstream(head.clone()));
        let whole = self.pass_on(body, is_stream).await;
        let parts = self.recording.parts();
        let judged = self.judge(&head, &parts, is_stream, whole.is_ok());
        self.count(&judged);
        let took = self.recording.elapsed_ms().into();
        self.recording.upstream_ended(whole);
        if let Some(why) = judged.not_kept {
            return Err(why);
        }
        let body = match is_stream {
            true => AnswerBody::Events(parts),
            false => AnswerBody::Whole(joined(&parts)),
        };
        let kept =
            |name: &&str| Some(((*name).to_owned(), head.headers.get(*name)?.to_str().ok()?.to_owned()));
        let headers = KEPT_HEADERS.iter().filter_map(kept).collect();
        let (status, model, usage) = (head.status.as_u16(), judged.model, judged.usage);
        Ok(Answer { status, headers, body, model, usage, asked_at, took })
    }

    /// Gives each part to the callers as it comes: each event of a stream, once it is whole.
    async fn pass_on(&self, mut body: Body, is_stream: bool) -> terrace::Result<()> {
        let mut splitter = EventSplitter::default();
        while let Some(part) = body.next().await {
            let part = match part {
                Ok(part) => part,
                Err(error) => {
                    // The callers get what came of the last event, as they would from upstream.
                    splitter.rest().map_or(Ok(()), |rest| self.recording.push(rest))?;
                    return Err(Error::load(error));
                }
            };
            if !is_stream {
                self.recording.push(part)?;
                continue;
            }
            splitter.push(&part);
            while let Some(event) = splitter.next_event() {
                self.recording.push(event)?;
            }
            if splitter.waiting() > self.max_answer_bytes {
                // An event without an end: it is passed on in pieces, and makes the answer too large to be kept.
                self.recording.push(std::mem::take(&mut splitter).rest().unwrap_or_default())?;
            }
        }
        splitter.rest().map_or(Ok(()), |rest| self.recording.push(rest))
    }

    fn judge(&self, head: &Head, parts: &[(u32, Bytes)], is_stream: bool, is_whole: bool) -> Judgement {
        let mut judged = match is_stream {
            true => judge::judge_events(self.endpoint, parts.iter().map(|(_, part)| part)),
            false => judge::judge_whole(self.endpoint, &joined(parts)),
        };
        if !head.status.is_success() {
            judged.not_kept = Some(NotKept::Status);
        } else if !is_whole {
            judged.not_kept = Some(NotKept::Cut);
        } else if self.recording.bytes() > self.max_answer_bytes {
            judged.not_kept = Some(NotKept::TooLarge);
        }
        judged
    }

    fn count(&self, judged: &Judgement) {
        if let Some(usage) = &judged.usage {
            self.counts.add_used(usage);
        }
        if judged.not_kept.is_none() {
            self.counts.add(Count::Writes, 1);
        }
    }
}

fn is_event_stream(head: &Head) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"))
}

fn joined(parts: &[(u32, Bytes)]) -> Bytes {
    match parts {
        [(_, part)] => part.clone(),
        parts => parts.iter().flat_map(|(_, part)| part.iter().copied()).collect::<BytesMut>().freeze(),
    }
}

/// The time in ms since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
