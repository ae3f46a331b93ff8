//! A backend that writes down what its caches ask, and what they are answered.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use terrace_tier::{
    Backend, InvalidationLog, LeaseWaiter, Namespace, Op, Publish, Reply, Result, Tier, TierKey,
};

/// Passes every call on to `B` and records it, with its answer once there is one.
///
/// A clone shares the record, so that one can be given to a cache and the other asked.
///
/// # Example
/// ```
/// use terrace_conformance::{Fake, Recording};
///
/// let redis = Recording::new(Fake::named("redis"));
/// // ... build a cache over redis.clone() and use it ...
/// assert!(redis.records().is_empty());
/// ```
pub struct Recording<B> {
    inner: Arc<B>,
    records: Arc<Mutex<Vec<Record>>>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Record {
    /// The space of the tier that was called.
    pub space: Arc<Namespace>,
    /// The operations of one trip have one number; trips are numbered in the order in which they
    /// were sent.
    pub trip: usize,
    /// What was asked.
    pub request: Request,
    /// The answer; `None` while there is none, and for ever if the caller went away.
    pub answer: Option<Result<Answer>>,
}

/// What was asked of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// An operation on a key, alone or in a batch.
    Apply(TierKey, Op),
    /// [`Tier::clear`].
    Clear,
    /// [`Tier::ping`].
    Ping,
    /// [`Tier::ready`].
    Ready,
}

/// What a tier answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an operation.
    Reply(Reply),
    /// To anything else.
    Done,
}

impl<B: Backend> Recording<B> {
    /// Records the calls to `backend`.
    pub fn new(backend: B) -> Self {
        Self { inner: Arc::new(backend), records: Arc::default() }
    }

    /// The calls so far, in the order in which they were sent.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().clone()
    }

    /// The operations so far, in the order in which they were sent.
    pub fn ops(&self) -> Vec<Op> {
        let op = |record: &Record| match &record.request {
            Request::Apply(_, op) => Some(op.clone()),
            _ => None,
        };
        self.records.lock().iter().filter_map(op).collect()
    }

    /// What is recorded.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B> Clone for Recording<B> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), records: Arc::clone(&self.records) }
    }
}

impl<B: fmt::Debug> fmt::Debug for Recording<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recording").field(&self.inner).finish()
    }
}

impl<B: Backend> Backend for Recording<B> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        let inner = self.inner.open(space)?;
        Ok(Arc::new(RecordingTier {
            inner,
            space: Arc::new(space.clone()),
            records: Arc::clone(&self.records),
        }))
    }
}

#[derive(Debug)]
struct RecordingTier {
    inner: Arc<dyn Tier>,
    space: Arc<Namespace>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl RecordingTier {
    /// Records one trip and returns the place of its first request.
    fn sent(&self, requests: impl IntoIterator<Item = Request>) -> usize {
        let mut records = self.records.lock();
        let first = records.len();
        let trip = records.last().map_or(0, |last| last.trip + 1);
        let space = &self.space;
        let record = |request| Record { space: Arc::clone(space), trip, request, answer: None };
        records.extend(requests.into_iter().map(record));
        first
    }

    fn answered(&self, place: usize, answer: Result<Answer>) {
        if let Some(record) = self.records.lock().get_mut(place) {
            record.answer = Some(answer);
        }
    }

    fn done(&self, place: usize, result: Result<()>) -> Result<()> {
        self.answered(place, result.clone().map(|()| Answer::Done));
        result
    }
}

#[async_trait]
impl Tier for RecordingTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let place = self.sent([Request::Apply(key.clone(), op.clone())]);
        let reply = self.inner.apply(key, op).await;
        self.answered(place, reply.clone().map(Answer::Reply));
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let first = self.sent(batch.iter().map(|(key, op)| Request::Apply(key.clone(), op.clone())));
        let replies = self.inner.apply_many(batch).await;
        for (number, reply) in replies.iter().enumerate() {
            self.answered(first + number, reply.clone().map(Answer::Reply));
        }
        replies
    }

    async fn clear(&self) -> Result<()> {
        let place = self.sent([Request::Clear]);
        let result = self.inner.clear().await;
        self.done(place, result)
    }

    async fn ping(&self) -> Result<()> {
        let place = self.sent([Request::Ping]);
        let result = self.inner.ping().await;
        self.done(place, result)
    }

    async fn ready(&self) -> Result<()> {
        let place = self.sent([Request::Ready]);
        let result = self.inner.ready().await;
        self.done(place, result)
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        self.inner.log()
    }

    /// The inner one's: a relay's steps are not written down.
    fn publish(&self) -> Option<&dyn Publish> {
        self.inner.publish()
    }

    fn keeps_budget(&self) -> bool {
        self.inner.keeps_budget()
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        self.inner.lease_waiter()
    }
}
