//! The controls of the fake: outage, latency, hanging, eviction, loss, and the counts of calls.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_conformance::{Call, Fake};
use terrace_core::{Backend, ErrorKind, key::key_digest};
use terrace_tier::{Condition, Deadlines, Fence, Namespace, Op, Order, Reply, Role, Tier, TierKey, Token};

const LONG: Duration = Duration::from_secs(60);

fn open(fake: &Fake, role: Role) -> Arc<dyn Tier> {
    let namespace = Namespace::new("users", role).with_type(1, 1).with_budget(LONG);
    fake.open(&namespace).unwrap()
}

fn key(name: &'static str) -> TierKey {
    TierKey { bytes: Bytes::from_static(name.as_bytes()), digest: key_digest("users", None, name.as_bytes()) }
}

fn put(fake: &Fake) -> Op {
    let order = Order::Author(Condition::Always);
    let body = Some(Bytes::from_static(b"value"));
    Op::Put { order, deadlines: Deadlines::ttl(fake.now(), LONG), body, tombstone_ttl: LONG }
}

async fn is_there(tier: &Arc<dyn Tier>, name: &'static str) -> bool {
    matches!(tier.apply(&key(name), Op::Get).await.unwrap(), Reply::Hit(_))
}

#[tokio::test]
async fn down_it_fails_every_call_and_loses_nothing() {
    let fake = Fake::named("redis");
    let tier = open(&fake, Role::Cache);
    tier.apply(&key("a"), put(&fake)).await.unwrap();
    fake.set_down(true);
    let error = tier.apply(&key("a"), Op::Get).await.unwrap_err();
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Unavailable, Some("redis")));
    assert!(tier.ping().await.is_err() && tier.clear().await.is_err());
    assert!(tier.apply_many(vec![(key("a"), Op::Get)]).await[0].is_err());
    fake.set_down(false);
    assert!(is_there(&tier, "a").await);
}

#[tokio::test(start_paused = true)]
async fn latency_delays_every_call() {
    let fake = Fake::new();
    let tier = open(&fake, Role::Cache);
    fake.set_latency(Duration::from_millis(30));
    let start = tokio::time::Instant::now();
    tier.ping().await.unwrap();
    tier.apply_many(vec![(key("a"), Op::Get), (key("b"), Op::Get)]).await;
    assert_eq!(start.elapsed(), Duration::from_millis(60));
}

#[tokio::test(start_paused = true)]
async fn hanging_it_answers_nobody_until_it_goes_on() {
    let fake = Fake::new();
    let tier = open(&fake, Role::Store);
    fake.set_hanging(true);
    let (waiting, op) = (tier.clone(), put(&fake));
    let call = tokio::spawn(async move { waiting.apply(&key("a"), op).await });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!call.is_finished() && fake.calls().total() == 0);
    fake.set_hanging(false);
    assert!(matches!(call.await.unwrap(), Ok(Reply::Kept(_))));
}

#[tokio::test]
async fn an_eviction_takes_one_key_and_a_loss_all_of_them() {
    let fake = Fake::new();
    let tier = open(&fake, Role::Cache);
    for name in ["a", "b", "c"] {
        tier.apply(&key(name), put(&fake)).await.unwrap();
    }
    assert!(fake.evict("users", b"a") && !fake.evict("users", b"a") && !fake.evict("others", b"b"));
    assert!(!is_there(&tier, "a").await && is_there(&tier, "b").await);
    fake.lose_everything();
    assert!(!is_there(&tier, "b").await && !is_there(&tier, "c").await);
}

#[tokio::test]
async fn a_lease_from_before_a_loss_permits_no_fill() {
    let fake = Fake::new();
    let tier = open(&fake, Role::Cache);
    let lease = Op::Lease { token: Token::random(), ttl: LONG, over: None, replaces: Token::NONE };
    let Reply::Miss(fence) = tier.apply(&key("a"), lease).await.unwrap() else { panic!("a lease") };
    assert_ne!(fence, Fence::default());
    fake.lose_everything();
    let deadlines = Deadlines::ttl(fake.now(), LONG);
    let fill = Op::Fill { fence, version: fence.version, deadlines, body: None };
    assert_eq!(tier.apply(&key("a"), fill).await.unwrap(), Reply::Refused(None));
}

#[tokio::test]
async fn calls_are_counted_by_kind_and_trips_by_the_batch() {
    let fake = Fake::new();
    let tier = open(&fake, Role::Cache);
    tier.apply(&key("a"), put(&fake)).await.unwrap();
    tier.apply_many(vec![(key("a"), Op::Get), (key("b"), Op::Get)]).await;
    tier.clear().await.unwrap();
    tier.ping().await.unwrap();
    let calls = fake.calls();
    let of = [Call::Put, Call::Get, Call::Clear, Call::Ping, Call::Fill].map(|call| calls.of(call));
    assert_eq!((of, calls.total(), calls.trips()), ([1, 2, 1, 1, 0], 5, 4));
}
