//! A near hit allocates nothing: neither the lookup of a `String` key by `&str`, nor the check of its
//! life.

use std::{future::Future, pin::pin};

use allocation_counter::measure;
use terrace::{
    Builder, Memory, Quick, Ttl,
    near::{Near, TenantId, TenantKey, TenantKeyRef},
};

const KEYS: usize = 100;
const ROUNDS: usize = 200;

fn keys() -> Vec<String> {
    (0..KEYS).map(|at| format!("a key of some length, number {at}")).collect()
}

/// The allocations of `ROUNDS` rounds over all keys. The rounds before them are not counted, because an
/// engine may make its own structures then.
fn allocations(mut round: impl FnMut()) -> u64 {
    (0..10).for_each(|_| round());
    measure(|| (0..ROUNDS).for_each(|_| round())).count_total
}

/// The result of a future that is ready at its first poll, on this thread.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a near hit waits for nothing"),
    }
}

/// The allocations of the same hits in the engine alone.
fn engine_allocations(get: impl Fn(&TenantKeyRef<'_, str>) -> bool) -> u64 {
    let keys = keys();
    allocations(|| {
        for key in &keys {
            assert!(get(&TenantKeyRef { tenant: TenantId::NONE, key: key.as_str() }));
        }
    })
}

fn tenant_key(key: String) -> TenantKey<String> {
    TenantKey { tenant: TenantId::NONE, key }
}

async fn a_hit_allocates_what_the_engine_does<N: Near<String, u64>>(
    near: N,
    expected: u64,
) -> terrace::Result<()> {
    let cache = Builder::new("users".to_owned(), near).expire(Ttl::secs(3_600).jitter(0.1)).build()?;
    let keys = keys();
    for key in &keys {
        cache.put(key.as_str(), 7).await?;
    }
    let get = allocations(|| {
        for key in &keys {
            assert!(ready(cache.get(key.as_str())).is_ok_and(|hit| hit.as_deref() == Some(&7)));
        }
    });
    assert_eq!(get, expected, "get");
    let get_or_load = allocations(|| {
        for key in &keys {
            let load = || async { Err::<u64, _>(std::io::Error::other("a hit loads nothing")) };
            assert!(ready(cache.get_or_load(key.as_str(), load)).is_ok_and(|hit| *hit == 7));
        }
    });
    assert_eq!(get_or_load, expected, "get_or_load");
    Ok(())
}

#[tokio::test]
async fn a_hit_on_quick_allocates_nothing() -> terrace::Result<()> {
    let engine = quick_cache::sync::Cache::new(KEYS * 10);
    keys().into_iter().for_each(|key| engine.insert(tenant_key(key), std::sync::Arc::new(7)));
    let expected = engine_allocations(|key| engine.get(key).is_some());
    assert_eq!(expected, 0);
    a_hit_allocates_what_the_engine_does(Quick::entries(KEYS * 10), expected).await
}

#[tokio::test]
async fn a_hit_on_memory_allocates_nothing_beyond_the_engine() -> terrace::Result<()> {
    let engine = moka::sync::Cache::new(KEYS as u64 * 10);
    keys().into_iter().for_each(|key| engine.insert(tenant_key(key), std::sync::Arc::new(7)));
    let expected = engine_allocations(|key| engine.get(key).is_some());
    a_hit_allocates_what_the_engine_does(Memory::entries(KEYS as u64 * 10), expected).await
}

#[tokio::test]
async fn a_miss_of_a_cache_that_has_only_a_near_tier_allocates_nothing() -> terrace::Result<()> {
    let cache = Builder::new("users".to_owned(), Quick::<String, u64>::entries(KEYS)).build()?;
    let keys = keys();
    let get = allocations(|| {
        for key in &keys {
            assert!(ready(cache.get(key.as_str())).is_ok_and(|miss| miss.is_none()));
        }
    });
    assert_eq!(get, 0);
    Ok(())
}

/// Without a counter that counts, the tests above would always pass.
#[test]
fn an_allocation_is_counted() {
    let counted = measure(|| drop(Box::new(std::hint::black_box(7)))).count_total;
    assert_eq!(counted, 1);
}
