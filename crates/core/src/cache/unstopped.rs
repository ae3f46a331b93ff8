//! Work that its caller polls itself, and that goes on without its caller.
//!
//! A write must not be left half done when its caller goes away. A task of its own would see to that, but costs two
//! switches of threads for each write. Here the caller polls the work, and what is left of it becomes a task when
//! the caller is dropped. A caller may also hold a future and not poll it any more, so work that has not ended
//! within [`PATIENCE`] becomes a task, too, and its caller waits for that.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::runtime::Timer;
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

use super::tasks::Running;
use crate::{
    Result,
    panics::{task_result, write_panicked_error},
};

/// How long the caller alone polls the work. Most writes take a few milliseconds at most.
const PATIENCE: Duration = Duration::from_millis(20);

/// The future of [`Tasks::run`](super::tasks::Tasks::run).
pub(crate) struct Unstopped<F: Future<Output: Send> + Send + 'static> {
    shared: Arc<Shared<F>>,
    /// The end of the patience, once the work was not ready. Its waker is `shared`.
    patience: Option<Timer>,
}

struct Shared<F: Future> {
    /// The runtime of the call.
    runtime: Handle,
    state: Mutex<State<F>>,
}

enum State<F: Future> {
    /// The work waits for something. The waker is that of the caller, if it has polled the work.
    Waiting(Work<F>, Option<Waker>),
    /// The caller polls the work at this moment.
    Polled { is_late: bool },
    /// The rest of the work is a task.
    Task(JoinHandle<F::Output>),
    /// The work has ended, and the caller has its output.
    Ended,
}

struct Work<F> {
    future: Pin<Box<F>>,
    running: Running,
}

impl<F: Future<Output: Send> + Send + 'static> Work<F> {
    fn spawn(self, runtime: &Handle) -> JoinHandle<F::Output> {
        let Self { future, running } = self;
        runtime.spawn(async move {
            let _running = running;
            future.await
        })
    }
}

impl<F: Future<Output: Send> + Send + 'static> Unstopped<F> {
    pub(super) fn new(work: F, runtime: Handle, running: Running) -> Self {
        let work = Work { future: Box::pin(work), running };
        let state = Mutex::new(State::Waiting(work, None));
        Self { shared: Arc::new(Shared { runtime, state }), patience: None }
    }

    /// Takes the work, to poll it. Where the work is a task, the error is what polling the task gives.
    fn take(&self, cx: &mut Context<'_>) -> Result<Work<F>, Poll<Result<F::Output>>> {
        let mut state = self.shared.state.lock();
        match mem::replace(&mut *state, State::Polled { is_late: false }) {
            State::Waiting(work, _) => Ok(work),
            State::Task(task) => Err(state.poll_task(task, cx)),
            other @ (State::Polled { .. } | State::Ended) => {
                *state = other;
                Err(Poll::Pending)
            }
        }
    }

    /// Gives the work back after a poll that left it unfinished.
    fn give_back(&mut self, work: Work<F>, cx: &mut Context<'_>) -> Poll<Result<F::Output>> {
        if self.patience.is_none() {
            // The timer wakes `shared`, so its end needs no second poll. Every call has checked its runtime before.
            let waker = Waker::from(Arc::clone(&self.shared));
            self.patience = Timer::start(Instant::now() + PATIENCE, &waker).ok();
        }
        let mut state = self.shared.state.lock();
        if let State::Polled { is_late: true } = *state {
            return state.poll_task(work.spawn(&self.shared.runtime), cx);
        }
        *state = State::Waiting(work, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl<F: Future> State<F> {
    fn poll_task(
        &mut self,
        mut task: JoinHandle<F::Output>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output>> {
        let polled = Pin::new(&mut task).poll(cx);
        *self = if polled.is_ready() { Self::Ended } else { Self::Task(task) };
        polled.map(task_result)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Unstopped<F> {
    /// A panic of the work, and the end of its runtime, are typed errors.
    type Output = Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut work = match self.take(cx) {
            Ok(work) => work,
            Err(polled) => return polled,
        };
        let shared = Arc::clone(&self.shared);
        // The caller may be polled outside of the runtime in which it made the call.
        let _runtime = shared.runtime.enter();
        // A panic drops the work while it unwinds, as that of a task does, and the work's guards notice.
        let polled = catch_unwind(AssertUnwindSafe(move || match work.future.as_mut().poll(cx) {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => Err((work, cx)),
        }));
        let ended = match polled {
            Ok(Err((work, cx))) => return self.give_back(work, cx),
            Ok(Ok(output)) => Ok(output),
            Err(panic) => Err(write_panicked_error(&*panic)),
        };
        *shared.state.lock() = State::Ended;
        Poll::Ready(ended)
    }
}

/// The patience is over.
impl<F: Future<Output: Send> + Send + 'static> Wake for Shared<F> {
    fn wake(self: Arc<Self>) {
        let mut state = self.state.lock();
        let caller = match mem::replace(&mut *state, State::Ended) {
            State::Waiting(work, caller) => {
                *state = State::Task(work.spawn(&self.runtime));
                caller
            }
            State::Polled { .. } => {
                *state = State::Polled { is_late: true };
                None
            }
            other @ (State::Task(_) | State::Ended) => {
                *state = other;
                None
            }
        };
        drop(state);
        // The caller waits for the task from now on.
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Unstopped<F> {
    fn drop(&mut self) {
        let state = mem::replace(&mut *self.shared.state.lock(), State::Ended);
        if let State::Waiting(work, _) = state {
            // Where the runtime shuts down, the work is dropped here, and its guards act.
            drop(work.spawn(&self.shared.runtime));
        }
    }
}
