//! Writes through a tier whose calls hold a lock.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::poll;
use terrace_conformance::Fake;
use terrace_core::{Backend, Result};
use terrace_tier::{Clock, Namespace, Op, Reply, Tier, TierKey};
use tokio::sync::Mutex;

use crate::support::{builder, fake, ms};

/// A tier that runs one call at a time, as a file does that has one writer.
#[derive(Debug)]
struct Locked<T>(T, Arc<Mutex<()>>);

impl Backend for Locked<Fake> {
    fn name(&self) -> &str {
        "locked"
    }
    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(Locked(self.0.open(namespace)?, Arc::clone(&self.1))))
    }
}

#[async_trait]
impl Tier for Locked<Arc<dyn Tier>> {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let _one_at_a_time = self.1.lock().await;
        self.0.apply(key, op).await
    }
    async fn clear(&self) -> Result<()> {
        let _one_at_a_time = self.1.lock().await;
        self.0.clear().await
    }
    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_through_a_tier_with_a_lock_keeps_no_other_one_waiting_where_its_caller_holds_it() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    tier.set_latency(ms(5));
    let cache = builder().clock(&hand).tier(Locked(tier, Arc::default())).build().unwrap();
    let mut held = Box::pin(cache.put("held", 1));
    assert!(poll!(&mut held).is_pending());
    let began = tokio::time::Instant::now();
    tokio::time::timeout(Duration::from_secs(1), cache.put("other", 2)).await.unwrap().unwrap();
    assert_eq!(began.elapsed(), ms(10), "one call after the other, and no more");
    held.await.unwrap();
}
