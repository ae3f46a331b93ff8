//! Loads, which their callers poll once.

use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, FutureExt};
use terrace_core::{BoxError, ErrorKind};
use terrace_tier::Clock;
use tokio::task::{self, Id};

use crate::support::{FixedExpiry, ServeOnError, Stack, builder, local, ms, pass};

/// The tasks in which a loader ran, before and after an await that was not ready.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<Id>>>);

impl Tasks {
    fn note(&self) {
        self.0.lock().unwrap().push(task::id());
    }

    fn noted(&self) -> Vec<Id> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn load(&self, awaits: bool) -> impl Future<Output = Result<u64, BoxError>> + Send + 'static + use<> {
        let tasks = self.clone();
        async move {
            tasks.note();
            if awaits {
                task::yield_now().await;
                tasks.note();
            }
            Ok(1)
        }
    }
}

/// Runs a test in a task, which `task::id` needs.
async fn in_task(test: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(test).await.unwrap();
}

#[tokio::test]
async fn a_load_that_is_ready_at_once_runs_in_its_caller() {
    in_task(async {
        let (cache, tasks) = (local(), Tasks::default());
        assert_eq!(cache.get_or_load("k", || tasks.load(false)).await.unwrap(), 1);
        assert_eq!(tasks.noted(), [task::id()]);
    })
    .await;
}

#[tokio::test]
async fn a_load_that_is_not_ready_goes_on_in_a_task_and_ends_without_its_caller() {
    in_task(async {
        let (cache, tasks) = (local(), Tasks::default());
        assert!(crate::left_after(1, cache.get_or_load("k", || tasks.load(true))).await.is_none());
        cache.settled().await;
        let noted = tasks.noted();
        assert_eq!((noted.len(), noted[0]), (2, task::id()));
        assert_ne!(noted[1], task::id());
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    })
    .await;
}

async fn panics_at_once() -> Result<u64, BoxError> {
    panic!("a loader that panics on purpose")
}

#[tokio::test]
async fn a_loader_that_panics_at_once_is_a_typed_error_and_poisons_no_other_caller() {
    let cache = local();
    let error = cache.get_or_load("k", panics_at_once).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert_eq!(cache.stats().flights, 0);
    assert_eq!(cache.get_or_load("k", || async { Ok::<_, BoxError>(1) }).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_a_stale_value_may_overtake_is_a_task() {
    in_task(async {
        let hand = Clock::manual();
        let life = FixedExpiry::fresh(ms(1_000)).stale(ms(60_000));
        let cache = builder().clock(&hand).expire(life).freshness(ServeOnError).build().unwrap();
        let tasks = Tasks::default();
        cache.put("k", 7).await.unwrap();
        pass(&hand, ms(30_000)).await;
        assert_eq!(cache.get_or_load("k", || tasks.load(false)).await.unwrap(), 1);
        assert_ne!(tasks.noted(), [task::id()]);
    })
    .await;
}

/// Loads the value of each key from that of the key before it.
fn chain(cache: Stack, number: u64) -> BoxFuture<'static, Result<u64, BoxError>> {
    async move {
        if number == 0 {
            return Ok(0);
        }
        let before = {
            let cache = cache.clone();
            move || chain(cache, number - 1)
        };
        Ok(*cache.get_or_load(&number.to_string(), before).await? + 1)
    }
    .boxed()
}

#[tokio::test]
async fn two_thousand_loads_within_each_other_do_not_grow_the_stack() {
    assert_eq!(chain(local(), 2_000).await.unwrap(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_a_load_that_went_on_without_its_caller() {
    let cache = local();
    let (done, ended) = tokio::sync::oneshot::channel();
    let load = || async move {
        tokio::time::sleep(ms(50)).await;
        done.send(()).unwrap();
        Ok::<_, BoxError>(1)
    };
    assert!(crate::left_after(1, cache.get_or_load("k", load)).await.is_none());
    cache.close().await;
    assert!(ended.now_or_never().unwrap().is_ok());
}
