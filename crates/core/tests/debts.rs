//! What a tier did not confirm: no copy is trusted until it is made good.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use support::{fake, ms, without_near};
use terrace_conformance::{Call, Fake, Fault, Faulty};
use terrace_core::{Backend, Clock, Error, ErrorKind, Op, Reply, Result, Source, Space, Tier, TierKey};

#[tokio::test(start_paused = true)]
async fn after_an_expire_of_unknown_outcome_no_copy_outlives_its_record() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), Faulty::new(fake("postgres", &hand)));
    let cache = without_near().clock(&hand).tier(tier.clone()).store(store.clone()).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.get("k").await.unwrap();
    cache.settled().await;
    store.arm(Fault::lose_answer().on(Call::Expire));
    assert_eq!(cache.expire("k", ms(1_000)).await.unwrap_err().kind(), ErrorKind::Unknown);
    hand.advance(ms(60_000));
    assert!(cache.get("k").await.unwrap().is_none());
}

/// A tier that refuses to write one key.
#[derive(Debug)]
struct Picky<T>(T);

impl Backend for Picky<Fake> {
    fn name(&self) -> &str {
        "redis"
    }
    fn open(&self, space: &Space) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(Picky(self.0.open(space)?)))
    }
}

#[async_trait]
impl Tier for Picky<Arc<dyn Tier>> {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        match op {
            Op::Invalidate { .. } | Op::Put { .. } if &key.bytes[..] == b"bad" => {
                Err(Error::new(ErrorKind::Backend, "not this one"))
            }
            op => self.0.apply(key, op).await,
        }
    }
    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }
    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_tier_always_refuses_holds_up_no_other_debt() {
    let hand = Clock::manual();
    let (redis, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = without_near().clock(&hand).tier(Picky(redis.clone())).store(store).build().unwrap();
    redis.set_down(true);
    for n in 0..50 {
        cache.put(&format!("k{n}"), 2).await.unwrap();
    }
    cache.put("bad", 2).await.unwrap();
    redis.set_down(false);
    tokio::time::sleep(Duration::from_secs(600)).await;
    for n in 0..50 {
        let key = format!("k{n}");
        cache.get(&key).await.unwrap();
        cache.settled().await;
        let from = cache.get(&key).await.unwrap().unwrap().served().from;
        assert_eq!(from, Source::Tier("redis".into()), "{key}");
    }
}
