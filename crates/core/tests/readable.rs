//! A put that succeeds can be read, on every stack; the docs of `put` list the exceptions.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use support::{FixedExpiry, builder, fake, ms, without_near};
use terrace_core::{
    Cache, Level,
    near::Near,
    policy::{Admission, AdmitContext, Copies, WritePlan, WritePolicy},
};
use terrace_tier::Clock;

struct KeepNothing;

impl Admission for KeepNothing {
    fn admits(&self, _: &AdmitContext<'_>) -> bool {
        false
    }
}

/// Writes to the store and drops the copies.
struct DropCopies;

impl WritePolicy for DropCopies {
    fn plan(&self) -> WritePlan {
        WritePlan { store: true, copies: Copies::Invalidate }
    }
}

async fn reads_what_it_put<N: Near<String, u64>>(cache: &Cache<String, u64, N>) {
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().map(|value| *value), Some(1));
    let many = cache.put_many([("a".to_owned(), 2), ("b".to_owned(), 3)]).await;
    assert!(many.iter().all(Result::is_ok));
    let read = cache.get_many(&["a".to_owned(), "b".to_owned()]).await.into_values().unwrap();
    assert_eq!(
        read.iter().map(|one| one.as_ref().map(|value| **value)).collect::<Vec<_>>(),
        [Some(2), Some(3)]
    );
    let version = cache.put("k", 4).await.unwrap();
    if cache.replace("k", version, 5).await.is_ok() {
        assert_eq!(cache.get("k").await.unwrap().map(|value| *value), Some(5));
    }
}

#[tokio::test]
async fn a_put_that_succeeds_can_be_read_on_every_stack() {
    let hand = Clock::manual();
    let (near, far) = (|| builder().clock(&hand), || without_near().clock(&hand));
    let (redis, db) = (|| fake("redis", &hand), || fake("db", &hand));
    reads_what_it_put(&near().build().unwrap()).await;
    reads_what_it_put(&near().tier(redis().with_log()).build().unwrap()).await;
    reads_what_it_put(&far().tier(redis()).build().unwrap()).await;
    reads_what_it_put(&far().tier(redis()).tier(db()).build().unwrap()).await;
    reads_what_it_put(&far().store(db()).build().unwrap()).await;
    reads_what_it_put(&near().tier(redis()).store(db()).build().unwrap()).await;
    reads_what_it_put(&near().tier(redis()).store(db()).write(DropCopies).build().unwrap()).await;
    reads_what_it_put(&near().tier(redis()).store(db()).admit(KeepNothing).build().unwrap()).await;
    reads_what_it_put(&near().tier(redis()).store(db()).expire(FixedExpiry::fresh(ms(0))).build().unwrap())
        .await;
    reads_what_it_put(&far().store(db()).level(Level::Strong).build().unwrap()).await;
    reads_what_it_put(&near().tier(redis()).level(Level::Ttl).build().unwrap()).await;
}

#[tokio::test]
async fn a_copy_that_no_tier_may_keep_is_not_read_as_the_docs_of_put_say() {
    let hand = Clock::manual();
    let redis = || fake("redis", &hand);
    let stacks = [
        without_near().clock(&hand).build().unwrap(),
        builder().clock(&hand).tier(redis()).admit(KeepNothing).build().unwrap(),
        builder().clock(&hand).tier(redis()).expire(FixedExpiry::fresh(ms(0))).build().unwrap(),
    ];
    for cache in stacks {
        cache.put("k", 1).await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none());
    }
}
