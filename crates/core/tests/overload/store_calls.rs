//! Calls of a store are bounded where its tier does not bound them itself.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use terrace_conformance::Fake;
use terrace_core::{Backend, ErrorKind, Result, TierSettings};
use terrace_tier::{Clock, Namespace, Op, Reply, Tier, TierKey};
use tokio::time::Instant;

use crate::{
    secs, settle,
    support::{Stack, fake, ms, without_near},
};

/// A store that says whether it keeps its budget, and so bounds its calls, itself.
#[derive(Debug)]
struct Keeps(Fake, bool);

impl Backend for Keeps {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(KeepsTier(self.0.open(namespace)?, self.1)))
    }
}

#[derive(Debug)]
struct KeepsTier(Arc<dyn Tier>, bool);

#[async_trait]
impl Tier for KeepsTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        self.0.apply(key, op).await
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    fn keeps_budget(&self) -> bool {
        self.1
    }
}

async fn reads(cache: &Stack, count: u64) -> Vec<Result<()>> {
    join_all((0..count).map(|key| {
        let cache = cache.clone();
        async move { cache.get(&key.to_string()).await.map(drop) }
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_store_beyond_the_limit_wait_within_their_budget_and_are_busy_where_the_queue_is_full() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache =
        without_near().clock(&hand).max_loads(2).store(store.clone().budget(ms(250))).build().unwrap();
    store.set_latency(ms(100));
    let began = Instant::now();
    let answers = reads(&cache, 5).await;
    assert_eq!(began.elapsed(), ms(200), "two at a time");
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1, "two call, two wait, and one finds the queue full");
    assert_eq!((refused[0].kind(), refused[0].tier()), (ErrorKind::Busy, Some("postgres")));
    assert!(!cache.stats().tier("postgres").unwrap().lost);
    // A call that waited has the rest of its budget only.
    store.set_latency(ms(200));
    let answers = reads(&cache, 4).await;
    let late: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(late.len() == 2 && late.iter().all(|error| error.kind() == ErrorKind::Timeout), "{late:?}");
    // A write that found no permit was not sent.
    store.set_latency(secs(3_600));
    let held = [cache.clone(), cache.clone()]
        .map(|cache| tokio::spawn(async move { drop(cache.get("held").await) }));
    settle().await;
    assert_eq!(cache.put("k", 1).await.unwrap_err().kind(), ErrorKind::Busy);
    for held in held {
        held.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_bounds_its_own_calls_is_not_bounded_twice() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = without_near().clock(&hand).max_loads(2).store(Keeps(store.clone(), true)).build().unwrap();
    store.set_latency(ms(100));
    let began = Instant::now();
    assert!(reads(&cache, 50).await.iter().all(Result::is_ok));
    assert_eq!(began.elapsed(), ms(100));
    let bounded = without_near().clock(&hand).max_loads(2).store(Keeps(store.another_handle(), false));
    let bounded = bounded.build().unwrap();
    assert_eq!(reads(&bounded, 50).await.iter().filter(|answer| answer.is_ok()).count(), 4);
}
