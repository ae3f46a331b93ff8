//! Policies, observers and codecs that panic, at each of their calls in turn.

use std::{cell::Cell, time::Duration};

use terrace_core::{
    BoxError, Builder, Cache, Event, Level, MissingKeys, Observer,
    policy::{
        Admission, AdmitContext, Coalesce, Expiry, Freshness, Lifetime, OnStale, StaleHit, WriteContext,
    },
};
use terrace_tier::{Clock, ManualClock};
use terrace_tier_memory::Memory;

use crate::support::{FixedStampede, fake, ms, pass};

thread_local! {
    /// The number of calls until user code panics; all tasks of a test run in its thread.
    static CALLS_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A call of user code. It panics if its turn has come, without a message of the panic hook.
fn user_code() {
    let left = CALLS_LEFT.get();
    CALLS_LEFT.set(left.and_then(|left| left.checked_sub(1)));
    if left == Some(0) {
        std::panic::resume_unwind(Box::new("user code that panics on purpose"));
    }
}

struct UserCode;

impl Observer for UserCode {
    fn observe(&self, _namespace: &str, _event: &Event<'_>) {
        user_code();
    }
}

impl Expiry for UserCode {
    fn lifetime(&self, _context: &WriteContext) -> Lifetime {
        user_code();
        Lifetime { fresh: ms(1_000), stale: ms(60_000) }
    }
}

impl Freshness for UserCode {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        user_code();
        OnStale::ServeAndRefresh
    }

    fn on_error(&self, _hit: &StaleHit) -> bool {
        user_code();
        true
    }
}

impl Admission for UserCode {
    fn admits(&self, _context: &AdmitContext<'_>) -> bool {
        user_code();
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value(u64);

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        user_code();
        self.0.serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        user_code();
        u64::deserialize(from).map(Self)
    }
}

type Stack = Cache<String, Value, Memory<String, Value>>;

fn stack(kind: usize, hand: &ManualClock) -> Stack {
    let tier = |name| {
        let tier = fake(name, hand);
        tier.set_latency(ms(5));
        tier
    };
    let near = if kind == 5 { Memory::off() } else { Memory::entries(100) };
    let stack = Builder::new("tests".to_owned(), near).clock(hand);
    let stack = stack.expire(UserCode).freshness(UserCode).admit(UserCode).observer(UserCode);
    let stack = match kind {
        0 => stack,
        1 => stack.tier(tier("redis")).stampede(FixedStampede(Coalesce::Lease)),
        2 => stack.tier(tier("redis")).tier(tier("postgres")).level(Level::Ttl),
        3 => stack.tier(tier("redis")).store(tier("db")),
        4 => stack.tier(tier("redis")).store(tier("db")).level(Level::Strong),
        _ => stack.tier(tier("redis")),
    };
    stack.build().unwrap()
}

fn keys() -> [String; 3] {
    ["a", "b", "a"].map(String::from)
}

async fn load(cache: Stack, key: &'static str) {
    drop(cache.get_or_load(key, || async { loaded().await }).await);
}

async fn loaded() -> Result<Value, BoxError> {
    tokio::time::sleep(ms(10)).await;
    Ok(Value(1))
}

async fn load_many(cache: Stack) {
    let grouped = |missing: MissingKeys<String>| async move {
        let value = loaded().await?;
        let count = missing.keys().len();
        Ok::<_, BoxError>(missing.zip(std::iter::repeat_n(value, count)))
    };
    drop(cache.get_or_load_many(&keys(), grouped).await);
}

/// Calls of all methods, some at the same time. A panic ends no more than its own call.
async fn use_everything(cache: &Stack, hand: &ManualClock) {
    for _ in 0..2 {
        let reads = [
            tokio::spawn(load(cache.clone(), "a")),
            tokio::spawn(load(cache.clone(), "a")),
            tokio::spawn(load_many(cache.clone())),
            tokio::spawn(clone_of(cache, |cache| async move { drop(cache.get("a").await) })),
            tokio::spawn(clone_of(cache, |cache| async move { drop(cache.get_many(&keys()).await) })),
        ];
        futures_util::future::join_all(reads).await;
        // The values are stale now.
        pass(hand, ms(2_000)).await;
    }
    let writes = [
        tokio::spawn(clone_of(cache, |cache| async move {
            drop(cache.refresh("b", |_| async { loaded().await.map(Some) }).await);
        })),
        tokio::spawn(clone_of(cache, |cache| async move { drop(cache.put("a", Value(1)).await) })),
        tokio::spawn(clone_of(cache, |cache| async move {
            drop(cache.put_many(keys().map(|key| (key, Value(1)))).await);
        })),
        tokio::spawn(clone_of(cache, |cache| async move { drop(cache.expire("a", ms(5_000)).await) })),
        tokio::spawn(clone_of(cache, |cache| async move { drop(cache.invalidate("b").await) })),
        tokio::spawn(clone_of(cache, |cache| async move { drop(cache.clear().await) })),
    ];
    futures_util::future::join_all(writes).await;
}

/// A call with a handle of its own.
fn clone_of<F: Future<Output = ()>>(cache: &Stack, call: impl FnOnce(Stack) -> F) -> F {
    call(cache.clone())
}

async fn a_panic_at_each_call(kind: usize) {
    for calls in 0.. {
        let hand = Clock::manual();
        let cache = stack(kind, &hand);
        CALLS_LEFT.set(Some(calls));
        let context = format!("stack {kind}, panic at call {calls}");
        let used = tokio::time::timeout(Duration::from_secs(60), use_everything(&cache, &hand));
        used.await.expect(&context);
        cache.settled().await;
        let has_panicked = CALLS_LEFT.take().is_none();
        assert_eq!(cache.stats().flights, 0, "{context}");
        let after = tokio::time::timeout(Duration::from_secs(10), async {
            cache.put("a", Value(2)).await.expect(&context);
            let put = *cache.get("a").await.expect(&context).expect(&context);
            (put, *cache.get_or_load("b", loaded).await.expect(&context))
        });
        assert_eq!(after.await.expect(&context), (Value(2), Value(1)), "{context}");
        if !has_panicked {
            assert!(calls > 20, "user code is called more often than that: {calls}");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn user_code_that_panics_at_any_call_leaves_nobody_waiting_in_a_local_cache() {
    a_panic_at_each_call(0).await;
}

#[tokio::test(start_paused = true)]
async fn user_code_that_panics_at_any_call_leaves_nobody_waiting_where_processes_wait() {
    a_panic_at_each_call(1).await;
}

#[tokio::test(start_paused = true)]
async fn user_code_that_panics_at_any_call_leaves_nobody_waiting_at_level_ttl() {
    a_panic_at_each_call(2).await;
}

#[tokio::test(start_paused = true)]
async fn user_code_that_panics_at_any_call_leaves_nobody_waiting_with_a_store() {
    a_panic_at_each_call(3).await;
}

#[tokio::test(start_paused = true)]
async fn user_code_that_panics_at_any_call_leaves_nobody_waiting_at_level_strong() {
    a_panic_at_each_call(4).await;
}

#[tokio::test(start_paused = true)]
async fn user_code_that_panics_at_any_call_leaves_nobody_waiting_without_near() {
    a_panic_at_each_call(5).await;
}
