//! `Tasks` spawns the background tasks of a cache, and counts the running ones.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use terrace_tier::runtime::current_runtime;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};
use tracing::Instrument;

use super::unstopped::Unstopped;
use crate::Result;

/// The tasks of one cache. Each runs on the runtime of the call that spawns it.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    running: AtomicUsize,
    settled: Notify,
}

impl Tasks {
    /// Spawns a task on the caller's runtime.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Config`](crate::ErrorKind::Config) outside of a runtime.
    pub(crate) fn spawn<F>(&self, task: F) -> Result<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (runtime, running) = (current_runtime()?, self.count.enter());
        let task = async move {
            let _running = running;
            task.await
        };
        Ok(runtime.spawn(task.instrument(tracing::Span::current())))
    }

    /// Polls `work` once, in the caller, and spawns a task for what is left of it. Work that is ready at its
    /// first poll so needs no task. A panic ends the work, as it ends a task.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn): the work is dropped.
    pub(crate) fn start(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let (runtime, running) = (current_runtime()?, self.count.enter());
        let mut work = Box::pin(work);
        // A task is polled when it is spawned, so nobody needs to be woken before. A panic drops the work while
        // it unwinds, and the work's guards report the panic.
        let first = catch_unwind(AssertUnwindSafe(move || {
            let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            matches!(polled, Poll::Pending).then_some(work)
        }));
        if let Ok(Some(rest)) = first {
            let rest = async move {
                let _running = running;
                rest.await;
            };
            drop(runtime.spawn(rest.instrument(tracing::Span::current())));
        }
        Ok(())
    }

    /// Work that its caller polls, and that goes on as a task when its caller goes away or does not poll it any
    /// more. It counts as running from now on.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub(crate) fn run<F>(&self, work: F) -> Result<Unstopped<F>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Ok(Unstopped::new(work, current_runtime()?, self.count.enter()))
    }

    /// Spawns a task that lasts as long as the cache has work for it. [`settled`](Self::settled) does not wait
    /// for it.
    ///
    /// # Errors
    /// As [`current_runtime`].
    pub(crate) fn spawn_lasting(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<AbortHandle> {
        Ok(current_runtime()?.spawn(task).abort_handle())
    }

    pub(crate) fn running(&self) -> usize {
        self.count.running.load(Ordering::Acquire)
    }

    /// Waits until no task runs.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.count.settled.notified();
            if self.running() == 0 {
                return;
            }
            settled.await;
        }
    }
}

impl Count {
    fn enter(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(Arc::clone(self))
    }
}

/// The count of one running task, until the task ends, panics or is dropped with its runtime.
pub(super) struct Running(Arc<Count>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}
