//! `Tasks` spawns the background tasks of a cache, and counts the running ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

/// The tasks of one cache on the runtime that it was built on.
#[derive(Clone)]
pub(crate) struct Tasks {
    runtime: Handle,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    running: AtomicUsize,
    settled: Notify,
}

impl Tasks {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, count: Arc::default() }
    }

    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let running = self.count.enter();
        self.runtime.spawn(async move {
            let _running = running;
            task.await
        })
    }

    /// Spawns a task that lasts as long as the cache has work for it. [`settled`](Self::settled) does not wait
    /// for it.
    pub(crate) fn spawn_lasting(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(task).abort_handle()
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
struct Running(Arc<Count>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}
