//! The order in which tiers are called: reads go near to far, fills and writes far to near.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use support::{Stack, fake, without_near};
use terrace_conformance::Fake;
use terrace_tier::{Backend, Clock, Namespace, Op, Reply, Result, Tier, TierKey};

/// The calls to all tiers of a stack, in order.
type CallLog = Arc<Mutex<Vec<String>>>;

/// A tier that appends its name and the operation to the log before it calls the inner tier.
#[derive(Debug)]
struct LoggingTier<T> {
    name: String,
    inner: T,
    log: CallLog,
}

impl Backend for LoggingTier<Fake> {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let (name, log) = (self.name.clone(), Arc::clone(&self.log));
        Ok(Arc::new(LoggingTier { name, inner: self.inner.open(namespace)?, log }))
    }
}

#[async_trait]
impl Tier for LoggingTier<Arc<dyn Tier>> {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let word = match &op {
            Op::Get => "get",
            Op::Lease { .. } => "lease",
            Op::Fill { .. } => "fill",
            Op::Put { .. } => "put",
            Op::Invalidate { .. } => "invalidate",
            Op::Remove { .. } => "remove",
            Op::Expire { .. } => "expire",
            _ => "unknown",
        };
        self.log.lock().unwrap().push(format!("{} {word}", self.name));
        self.inner.apply(key, op).await
    }

    async fn clear(&self) -> Result<()> {
        self.log.lock().unwrap().push(format!("{} clear", self.name));
        self.inner.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}

/// Two cache tiers and a store.
fn stack() -> (Stack, CallLog) {
    let (hand, log) = (Clock::manual(), CallLog::default());
    let logging =
        |name: &str| LoggingTier { name: name.to_owned(), inner: fake(name, &hand), log: Arc::clone(&log) };
    let cache = without_near()
        .tier(logging("nearer"))
        .tier(logging("farther"))
        .store(logging("store"))
        .clock(&hand)
        .build()
        .unwrap();
    (cache, log)
}

async fn logged(cache: &Stack, log: &CallLog) -> Vec<String> {
    cache.settled().await;
    std::mem::take(&mut *log.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn reads_go_near_to_far_and_writes_far_to_near() {
    let (cache, log) = stack();
    cache.put("k", 1).await.unwrap();
    assert_eq!(logged(&cache, &log).await, ["store put", "farther put", "nearer put"]);

    assert_eq!(*cache.get("k").await.unwrap().unwrap(), 1);
    let lookup = ["nearer lease", "farther lease", "store lease", "farther fill", "nearer fill"];
    assert_eq!(logged(&cache, &log).await, lookup);

    cache.invalidate("k").await.unwrap();
    assert_eq!(logged(&cache, &log).await, ["farther invalidate", "nearer invalidate"]);

    cache.clear().await.unwrap();
    assert_eq!(logged(&cache, &log).await, ["farther clear", "nearer clear"]);

    cache.remove("k").await.unwrap();
    assert_eq!(logged(&cache, &log).await, ["store remove", "farther invalidate", "nearer invalidate"]);
}
