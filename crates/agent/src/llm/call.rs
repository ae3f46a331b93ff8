//! The route of one request: the calls under way, the cache, upstream.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use http::Response;
use parking_lot::Mutex;
use terrace::{BoxError, Cache, Cached, Digest, Error, Item, LoadContext, Memory, Result};

use super::{
    LlmCache, LlmRequest,
    answer::Answer,
    judge::NotKept,
    record::{Recorder, now_ms},
    recording::{Begun, Recording, RecordingGuard},
    reply::{Bypass, Outcome, Reply},
    savings::{Count, ModelCounts},
    upstream::{self, Upstream},
};

type AnswerCache = Cache<Digest, Answer, Memory<Digest, Answer>>;

impl LlmCache {
    /// Answers a request from the cache, from a call of upstream that is under way, or from `upstream`, which is called
    /// at most once. Concurrent equal requests of one tenant make one call, in one process and among all processes that
    /// share the stack's Redis or Postgres. The callers of the calling process get each event as it comes; those of
    /// other processes get the whole at its end, and after [`LlmSettings::patience`](super::LlmSettings) without it
    /// ask upstream themselves.
    ///
    /// The call of upstream goes on if its callers go away, so that its answer is kept, for at most the deadline.
    ///
    /// The request's header `Cache-Control` is obeyed: `no-store` goes past the cache, `no-cache` asks upstream and keeps
    /// the answer, `max-age` takes no older answer.
    ///
    /// # Errors
    /// [`ErrorKind::Load`](terrace::ErrorKind::Load) if `upstream` fails before its first line; a later failure is an
    /// error of the reply's stream. A status such as 429 is no error: the reply has it, and nothing is kept.
    /// [`ErrorKind::Timeout`](terrace::ErrorKind::Timeout) after the deadline.
    ///
    /// # Cost
    /// See [`LlmCache`]. A call of upstream is one spawned task, and its answer is in memory until the last caller has
    /// read it, up to 64 MiB.
    pub async fn call<F, Fut, S, E>(&self, request: &LlmRequest, upstream: F) -> Result<Reply>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Response<S>, E>> + Send + 'static,
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.answer(request, upstream::boxed(upstream)).await.map_err(|error| self.named(error))
    }

    async fn answer(&self, request: &LlmRequest, upstream: Upstream) -> Result<Reply> {
        let counts = self.0.savings.of(request.model());
        if let Some(reason) = self.bypass(request) {
            return pass_by(upstream, reason, &counts).await;
        }
        let Some(key) = self.key(request).await? else {
            return pass_by(upstream, Bypass::Number, &counts).await;
        };
        let cache = self.0.answers.tenant(&request.tenant)?;
        let (tenant, live) = (&request.tenant, &self.0.live);
        if request.control.no_cache {
            return self.lead(request, &cache, key, RecordingGuard::alone(), upstream, counts).await;
        }
        if let Some(recording) = live.get(tenant, &key) {
            return self.follow(recording, key, &counts).await;
        }
        let is_recent = |answer: &Cached<Answer>| {
            let age = now_ms().saturating_sub(answer.asked_at);
            request.control.max_age.is_none_or(|most| u128::from(age) <= most.as_millis())
        };
        match cache.get(&key).await? {
            Some(answer) if is_recent(&answer) => return Ok(self.hit(&answer, key, &counts)),
            Some(_) => {
                return self.lead(request, &cache, key, RecordingGuard::alone(), upstream, counts).await;
            }
            None => {}
        }
        match live.join_or_begin(tenant, &key) {
            (_, Some(guard)) => self.lead(request, &cache, key, guard, upstream, counts).await,
            (recording, None) => self.follow(recording, key, &counts).await,
        }
    }

    fn bypass(&self, request: &LlmRequest) -> Option<Bypass> {
        let stateful = ["previous_response_id", "conversation", "background"];
        if request.endpoint() == super::Endpoint::Other {
            Some(Bypass::Endpoint)
        } else if request.control.no_store {
            Some(Bypass::NoStore)
        } else if stateful.iter().any(|field| request.has(field)) {
            Some(Bypass::Stateful)
        } else if !self.0.settings.when.takes(request) {
            Some(Bypass::NotDeterministic)
        } else {
            None
        }
    }

    fn hit(&self, answer: &Cached<Answer>, key: Digest, counts: &ModelCounts) -> Reply {
        counts.add(Count::Hits, 1);
        counts.add_avoided(&answer.usage.unwrap_or_default(), 1);
        Reply::of_kept(answer, key, now_ms(), self.0.settings.replay_speed)
    }

    /// Shares the call of another caller.
    async fn follow(&self, recording: Arc<Recording>, key: Digest, counts: &ModelCounts) -> Result<Reply> {
        match recording.begun().await {
            Begun::Upstream(head) => {
                counts.add(Count::Joined, 1);
                Ok(Reply::of_recording(recording, head, Outcome::Joined, Some(key)))
            }
            Begun::Kept(answer) => Ok(self.hit(&answer, key, counts)),
            Begun::Failed(error) => Err(error),
        }
    }

    /// Starts the task that makes the call, and gives its answer.
    async fn lead(
        &self,
        request: &LlmRequest,
        cache: &AnswerCache,
        key: Digest,
        guard: RecordingGuard,
        upstream: Upstream,
        counts: Arc<ModelCounts>,
    ) -> Result<Reply> {
        let recording = Arc::clone(&guard.recording);
        let recorder = Recorder::new(&recording, request.endpoint(), &self.0.settings, &counts);
        let task = UpstreamTask {
            cache: cache.clone(),
            key,
            renews: request.control.no_cache || request.control.max_age.is_some(),
            recorder: Arc::new(Mutex::new(Some((recorder, upstream)))),
            guard,
            patience: self.0.settings.patience,
            deadline: self.0.settings.deadline,
            counts: Arc::clone(&counts),
        };
        tokio::spawn(task.run());
        match recording.begun().await {
            Begun::Upstream(head) => Ok(Reply::of_recording(recording, head, Outcome::Miss, Some(key))),
            Begun::Kept(answer) => Ok(self.hit(&answer, key, &counts)),
            Begun::Failed(error) => Err(error),
        }
    }
}

/// Asks upstream past the cache.
async fn pass_by(upstream: Upstream, reason: Bypass, counts: &ModelCounts) -> Result<Reply> {
    counts.add(Count::Bypassed, 1);
    let (head, body) = upstream().await.map_err(Error::load)?;
    Ok(Reply::of_upstream(head, reason, body))
}

/// The task that brings the answer of one recording.
struct UpstreamTask {
    cache: AnswerCache,
    key: Digest,
    /// Whether upstream is asked although the cache may have an answer.
    renews: bool,
    /// Taken by the first that makes the call: the loader of the cache, or this task when its patience ends.
    recorder: Arc<Mutex<Option<(Recorder, Upstream)>>>,
    guard: RecordingGuard,
    patience: std::time::Duration,
    deadline: std::time::Duration,
    counts: Arc<ModelCounts>,
}

impl UpstreamTask {
    async fn run(mut self) {
        let taken = Arc::clone(&self.recorder);
        let (cache, key) = (self.cache.clone(), self.key);
        let load = move |_: LoadContext<Answer>| async move {
            // It runs once no other process holds the lease. The patience of this task may have ended before.
            let call = taken.lock().take();
            let (recorder, upstream) = call.ok_or(NotKept::Failed)?;
            recorder.record(upstream).await.map(Item::new)
        };
        let mut read = match self.renews {
            true => cache.refresh(&key, load).boxed(),
            false => cache.get_or_load_with(&key, load).boxed(),
        };
        let mut read_ended = None;
        tokio::select! {
            biased;
            ended = &mut read => read_ended = Some(ended),
            () = tokio::time::sleep(self.patience) => {}
        }
        let ended = match read_ended {
            Some(ended) => ended,
            None => {
                let own = self.recorder.lock().take();
                match own {
                    // Another process makes the call: this one asks too, and leaves the keeping to that.
                    Some((recorder, upstream)) => {
                        let _ = tokio::time::timeout(self.deadline, recorder.record(upstream)).await;
                        Ok(None)
                    }
                    None => (&mut read).await,
                }
            }
        };
        drop(read);
        self.settle(ended);
    }

    /// Tells the callers the end of upstream's answer, or what the cache said where upstream was not asked, and counts
    /// what they were spared.
    fn settle(&mut self, ended: Result<Option<Cached<Answer>>>) {
        self.guard.leave();
        let recording = &self.guard.recording;
        match (recording.take_upstream_end(), ended) {
            (Some(end), ended) => {
                let usage = ended.ok().flatten().and_then(|answer| answer.usage);
                self.counts.add_avoided(&usage.unwrap_or_default(), recording.joined());
                recording.end(end);
            }
            (None, Ok(Some(answer))) => recording.begin(Begun::Kept(answer)),
            // The guard ends what has no end.
            (None, Ok(None)) => {}
            (None, Err(error)) => recording.end(Err(error)),
        }
    }
}
