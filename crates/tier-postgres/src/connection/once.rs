//! Work that all callers share: it is done once, and again after a failure.

use std::future::Future;

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use terrace_tier::{Error, ErrorKind, Result, runtime::current_runtime_id};
use tokio::runtime::Id;

/// A value that is made once, in a task of its own. A caller that gives up does not stop the task, so
/// work that takes longer than one caller's budget is done for the next caller.
pub(crate) struct Once<T: Clone>(Mutex<State<T>>);

enum State<T: Clone> {
    Idle,
    /// The runtime in which the work is done, and its end.
    Running(Option<Id>, Shared<BoxFuture<'static, Result<T>>>),
    Done(T),
}

impl<T: Clone + Send + Sync + 'static> Once<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::Idle))
    }

    /// The value, if it was made.
    pub(crate) fn peek(&self) -> Option<T> {
        match &*self.0.lock() {
            State::Done(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// The value. `work` makes it, unless it exists or is being made in this runtime. All callers that wait
    /// get the error of a failure, and the next call tries again.
    pub(crate) async fn get<F>(&self, work: impl FnOnce() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let here = current_runtime_id();
        let running = {
            let mut state = self.0.lock();
            match &*state {
                State::Done(value) => return Ok(value.clone()),
                State::Running(runtime, running) if *runtime == here => running.clone(),
                State::Running(..) | State::Idle => {
                    let task = tokio::spawn(work());
                    let running = async move {
                        task.await.unwrap_or_else(|_| {
                            Err(Error::new(
                                ErrorKind::Unavailable,
                                "the runtime ended while the schema or the namespace was prepared",
                            ))
                        })
                    };
                    let running = running.boxed().shared();
                    *state = State::Running(here, running.clone());
                    running
                }
            }
        };
        let result = running.clone().await;
        let mut state = self.0.lock();
        if matches!(&*state, State::Running(_, current) if current.ptr_eq(&running)) {
            *state = match &result {
                Ok(value) => State::Done(value.clone()),
                Err(_) => State::Idle,
            };
        }
        result
    }

    /// Sets the value, so that later callers do not wait.
    pub(crate) fn put(&self, value: T) {
        *self.0.lock() = State::Done(value);
    }

    /// Forgets the value: the next call of [`get`](Self::get) makes it again.
    pub(crate) fn forget(&self) {
        let mut state = self.0.lock();
        if matches!(&*state, State::Done(_)) {
            *state = State::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn the_work_is_done_once_and_a_failure_is_tried_again() {
        let once = Once::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let work = |fail: bool| {
            let runs = Arc::clone(&runs);
            move || async move {
                let run = runs.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                if fail { Err(Error::new(ErrorKind::Unavailable, "away")) } else { Ok(run) }
            }
        };
        let (first, second) = tokio::join!(once.get(work(true)), once.get(work(true)));
        assert!(first.is_err() && second.is_err());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        let (first, second) = tokio::join!(once.get(work(false)), once.get(work(false)));
        assert_eq!((first.ok(), second.ok()), (Some(1), Some(1)));
        once.forget();
        assert_eq!(once.get(work(false)).await.ok(), Some(2));
    }

    #[test]
    fn no_caller_waits_for_the_work_of_another_runtime() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (stands_still, other) = (runtime(), runtime());
        let once = Arc::new(Once::new());
        let begun = Arc::clone(&once);
        stands_still.block_on(async move {
            tokio::spawn(async move { begun.get(std::future::pending::<Result<u8>>).await });
            tokio::task::yield_now().await;
        });
        assert_eq!(other.block_on(once.get(|| async { Ok(2) })).ok(), Some(2));
        assert_eq!(once.peek(), Some(2));
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_stops_nothing() {
        let once = Arc::new(Once::new());
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let caller = tokio::spawn({
            let once = Arc::clone(&once);
            async move {
                once.get(|| async move {
                    let _ended = finished.await;
                    Ok(7)
                })
                .await
            }
        });
        tokio::task::yield_now().await;
        caller.abort();
        finish.send(()).ok();
        assert_eq!(once.get(|| async { Ok(8) }).await.ok(), Some(7));
    }
}
