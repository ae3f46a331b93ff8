//! A backend that records the calls of its caches, and the answers.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use terrace_tier::{
    Backend, Finding, FindingWatcher, FrontStore, InvalidationLog, LeaseWaiter, Namespace, Op, Publish,
    Reply, Result, Tier, TierKey,
};

/// Passes every call on to `B` and records it, with its answer as soon as there is one.
///
/// A clone shares the records: a test gives one clone to a cache and reads the records from the other.
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

/// One operation or other call.
#[derive(Clone, Debug)]
pub struct Record {
    /// The namespace of the tier that was called.
    pub namespace: Arc<Namespace>,
    /// The number of the trip, in the order in which the trips were sent. All operations of a batch
    /// have the number of the batch.
    pub trip: usize,
    /// The call.
    pub request: Request,
    /// The answer; `None` while there is none, and for ever if the caller dropped the call.
    pub answer: Option<Result<Answer>>,
}

/// A call to a tier.
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

/// The answer of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply to an operation.
    Reply(Reply),
    /// The success of any other call.
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

    /// The wrapped backend.
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

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let inner = self.inner.open(namespace)?;
        Ok(Arc::new(RecordingTier {
            inner,
            namespace: Arc::new(namespace.clone()),
            records: Arc::clone(&self.records),
        }))
    }
}

#[derive(Debug)]
struct RecordingTier {
    inner: Arc<dyn Tier>,
    namespace: Arc<Namespace>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl RecordingTier {
    /// Records one trip and returns the index of its first request.
    fn record_trip(&self, requests: impl IntoIterator<Item = Request>) -> usize {
        let mut records = self.records.lock();
        let first = records.len();
        let trip = records.last().map_or(0, |last| last.trip + 1);
        let namespace = &self.namespace;
        let record = |request| Record { namespace: Arc::clone(namespace), trip, request, answer: None };
        records.extend(requests.into_iter().map(record));
        first
    }

    fn record_answer(&self, index: usize, answer: Result<Answer>) {
        if let Some(record) = self.records.lock().get_mut(index) {
            record.answer = Some(answer);
        }
    }

    fn record_done<T: Clone>(&self, index: usize, result: Result<T>) -> Result<T> {
        self.record_answer(index, result.clone().map(|_| Answer::Done));
        result
    }
}

#[async_trait]
impl Tier for RecordingTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let index = self.record_trip([Request::Apply(key.clone(), op.clone())]);
        let reply = self.inner.apply(key, op).await;
        self.record_answer(index, reply.clone().map(Answer::Reply));
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let first = self.record_trip(batch.iter().map(|(key, op)| Request::Apply(key.clone(), op.clone())));
        let replies = self.inner.apply_many(batch).await;
        for (number, reply) in replies.iter().enumerate() {
            self.record_answer(first + number, reply.clone().map(Answer::Reply));
        }
        replies
    }

    async fn clear(&self) -> Result<()> {
        let index = self.record_trip([Request::Clear]);
        let result = self.inner.clear().await;
        self.record_done(index, result)
    }

    async fn ping(&self) -> Result<()> {
        let index = self.record_trip([Request::Ping]);
        let result = self.inner.ping().await;
        self.record_done(index, result)
    }

    async fn ready(&self) -> Result<Vec<Finding>> {
        let index = self.record_trip([Request::Ready]);
        let result = self.inner.ready().await;
        self.record_done(index, result)
    }

    fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        self.inner.watch_findings(watcher);
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        self.inner.log()
    }

    /// The inner tier's: the steps of a relay are not recorded.
    fn publish(&self) -> Option<&dyn Publish> {
        self.inner.publish()
    }

    fn keeps_budget(&self) -> bool {
        self.inner.keeps_budget()
    }

    fn may_be_held(&self) -> bool {
        self.inner.may_be_held()
    }

    fn front_store(&self) -> Option<&dyn FrontStore> {
        self.inner.front_store()
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        self.inner.lease_waiter()
    }
}
