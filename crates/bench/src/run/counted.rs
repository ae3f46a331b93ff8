//! A backend whose calls are counted: how many, how long, and how many bytes went each way.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use terrace::{
    Backend, Result,
    server::Finding,
    tier::{
        FindingWatcher, InvalidationLog, LeaseWaiter, Namespace, Op, Publish, Reply, Stored, Tier, TierKey,
    },
};

use super::latency::Latencies;

/// What the calls to one backend were.
#[derive(Debug, Default)]
pub(crate) struct CallCounters {
    calls: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    latencies: Mutex<Latencies>,
}

/// The counts of the calls to one backend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    /// The number of calls, each of which is one round trip that concurrent calls may share.
    pub(crate) calls: u64,
    /// The bytes of values sent to the tier.
    pub(crate) sent: u64,
    /// The bytes of values that the tier gave.
    pub(crate) received: u64,
    /// How long the calls took.
    pub(crate) latencies: Latencies,
}

impl CallCounters {
    /// Takes the counts, which begin anew.
    pub(crate) fn take(&self) -> Calls {
        Calls {
            calls: self.calls.swap(0, Ordering::Relaxed),
            sent: self.sent.swap(0, Ordering::Relaxed),
            received: self.received.swap(0, Ordering::Relaxed),
            latencies: std::mem::take(&mut self.latencies.lock()),
        }
    }

    fn sends(&self, op: &Op) {
        if let Op::Fill { body: Some(body), .. } | Op::Put { body: Some(body), .. } = op {
            self.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
    }

    fn receives(&self, reply: &Result<Reply>) {
        if let Ok(Reply::Hit(stored) | Reply::Refused(Some(stored))) = reply {
            self.received.fetch_add(body_bytes(stored), Ordering::Relaxed);
        }
    }

    fn ends(&self, began: Instant) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.latencies.lock().record(began.elapsed());
    }
}

fn body_bytes(stored: &Stored) -> u64 {
    stored.body.as_ref().map_or(0, |body| body.len() as u64)
}

/// Passes every call on to a backend and counts it.
pub(crate) struct Counted {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) counters: Arc<CallCounters>,
}

impl Backend for Counted {
    fn name(&self) -> &str {
        self.backend.name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let tier = self.backend.open(namespace)?;
        Ok(Arc::new(CountedTier { tier, counters: Arc::clone(&self.counters) }))
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        self.backend.log()
    }
}

struct CountedTier {
    tier: Arc<dyn Tier>,
    counters: Arc<CallCounters>,
}

impl fmt::Debug for CountedTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tier.fmt(f)
    }
}

#[async_trait]
impl Tier for CountedTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        self.counters.sends(&op);
        let began = Instant::now();
        let reply = self.tier.apply(key, op).await;
        self.counters.ends(began);
        self.counters.receives(&reply);
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        batch.iter().for_each(|(_, op)| self.counters.sends(op));
        let began = Instant::now();
        let replies = self.tier.apply_many(batch).await;
        self.counters.ends(began);
        replies.iter().for_each(|reply| self.counters.receives(reply));
        replies
    }

    async fn clear(&self) -> Result<()> {
        self.tier.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.tier.ping().await
    }

    async fn ready(&self) -> Result<Vec<Finding>> {
        self.tier.ready().await
    }

    fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        self.tier.watch_findings(watcher);
    }

    fn keeps_budget(&self) -> bool {
        self.tier.keeps_budget()
    }

    fn may_be_held(&self) -> bool {
        self.tier.may_be_held()
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        self.tier.log()
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        self.tier.lease_waiter()
    }

    fn publish(&self) -> Option<&dyn Publish> {
        self.tier.publish()
    }
}
