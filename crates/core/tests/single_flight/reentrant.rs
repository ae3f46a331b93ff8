//! Loaders and observers that call the cache.

use std::{
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

use terrace_core::{BoxError, Error, Event, Observer};

use crate::support::{Loader, Stack, builder, local, ms};

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_its_own_key_gets_a_typed_error() {
    let cache = local();
    let inner = cache.clone();
    let result = cache
        .get_or_load("k", move || async move {
            inner.get_or_load("k", || async { Ok::<_, BoxError>(1) }).await.map(|value| *value)
        })
        .await;
    let error = result.unwrap_err();
    assert!(error.to_string().contains("asked for the key that it is loading"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_comes_back_to_its_key_over_another_gets_a_typed_error() {
    let cache = local();
    let (outer, middle) = (cache.clone(), cache.clone());
    let result = cache
        .get_or_load("a", move || async move {
            let b = outer
                .get_or_load("b", move || async move {
                    middle.get_or_load("a", || async { Ok::<_, BoxError>(1) }).await.map(|value| *value)
                })
                .await?;
            Ok::<u64, Error>(*b)
        })
        .await;
    assert!(result.unwrap_err().to_string().contains("wait for itself"));
}

#[tokio::test(start_paused = true)]
async fn a_loader_may_ask_for_other_keys_and_read_its_own() {
    let cache = local();
    let inner = cache.clone();
    let value = cache
        .get_or_load("a", move || async move {
            assert!(inner.get("a").await?.is_none());
            let b = inner.get_or_load("b", || async { Ok::<_, BoxError>(20) }).await?;
            Ok::<u64, Error>(*b + 1)
        })
        .await;
    assert_eq!(value.unwrap(), 21);
}

/// An observer that asks its cache for the stats.
struct StatsObserver(Arc<OnceLock<Stack>>);

impl Observer for StatsObserver {
    fn observe(&self, _: &str, _: &Event<'_>) {
        if let Some(cache) = self.0.get() {
            let _ = cache.stats();
        }
    }
}

#[test]
fn an_observer_may_ask_for_the_stats() {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let slot = Arc::new(OnceLock::new());
            let cache = builder().observer(StatsObserver(Arc::clone(&slot))).build().unwrap();
            let _ = slot.set(cache.clone());
            cache.put("k", 1).await.unwrap();
            cache.get_or_load("other", || Loader::default().give(1, ms(0))).await.unwrap();
            cache.invalidate("k").await.unwrap();
        });
        send.send(()).unwrap();
    });
    receive
        .recv_timeout(Duration::from_secs(10))
        .expect("the observer must not wait for a lock that its caller holds");
}
