//! Where the work of a handle runs: a handle may be made before there is a runtime, and be used by several of
//! them, one after another or at once.
//!
//! A socket and a task belong to the runtime in which they were made, and end with it. So no call uses a socket
//! or waits for a task of another runtime than its own: what a handle needs for its calls, it has once for each
//! runtime ([`PerRuntime`]). What it needs once in the process runs on one of them, and is started again on
//! another one when that has ended ([`BackgroundTask`]). The calls of a runtime share a timer ([`within`]).

mod timers;

use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::AbortHandle,
};

use crate::{Error, Result};

pub use timers::{Timer, within};

thread_local! {
    /// The last runtime in which this thread called, and whether it has timers.
    static LAST: Cell<Option<(Id, bool)>> = const { Cell::new(None) };
}

/// The tokio runtime of the caller.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) outside of a runtime, and in one without timers.
///
/// # Cost
/// One look at a thread's own memory, and one atomic addition.
pub fn current_runtime() -> Result<Handle> {
    let runtime = Handle::try_current().map_err(|_| {
        Error::config(
            "the call was made outside of a tokio runtime, in which its timers, sockets and tasks run: call it \
             inside of one, or enter one by `Handle::enter`",
        )
    })?;
    let has_timers = match LAST.get() {
        Some((id, has_timers)) if id == runtime.id() => has_timers,
        _ => has_timers(runtime.id()),
    };
    match has_timers {
        true => Ok(runtime),
        false => Err(Error::config(
            "the tokio runtime of the call has no timers: build it with `enable_time` or `enable_all`",
        )),
    }
}

/// tokio has no other way to ask than to make a timer.
#[cold]
fn has_timers(runtime: Id) -> bool {
    let has_timers = catch_unwind(AssertUnwindSafe(|| drop(tokio::time::sleep(Duration::ZERO)))).is_ok();
    LAST.set(Some((runtime, has_timers)));
    has_timers
}

/// The id of the caller's runtime; `None` outside of a runtime.
pub fn current_runtime_id() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// What the error of a call that came too late adds where the clock of the runtime goes ahead of the real one.
///
/// A test that has paused tokio's clock (`start_paused`) lets it jump to the next timer whenever the runtime has
/// nothing to do, so it ends each call of a server before the server has answered.
pub fn clock_hint() -> &'static str {
    match tokio::time::Instant::now().into_std() > std::time::Instant::now() {
        true => "; tokio's clock was paused or advanced, and a server answers in real time",
        false => "",
    }
}

/// One value for each runtime that uses a handle. The value of a runtime that has ended is dropped when the next
/// runtime gets one, so there are as many as runtimes that live, and those that ended since.
pub struct PerRuntime<T>(RwLock<Vec<Entry<T>>>);

struct Entry<T> {
    runtime: Id,
    value: Arc<T>,
    has_ended: Arc<AtomicBool>,
    /// Its drop ends the task by which the end of the runtime is noticed.
    _entry_lives: oneshot::Sender<()>,
}

impl<T> PerRuntime<T> {
    /// The value of the caller's runtime, which `make` makes if there is none.
    ///
    /// # Errors
    /// As [`current_runtime`].
    ///
    /// # Cost
    /// One lock that readers share.
    pub fn get(&self, make: impl FnOnce() -> T) -> Result<Arc<T>> {
        let runtime = current_runtime()?;
        let id = runtime.id();
        let find = |entries: &[Entry<T>]| {
            entries.iter().find(|entry| entry.runtime == id).map(|entry| Arc::clone(&entry.value))
        };
        if let Some(value) = find(&self.0.read()) {
            return Ok(value);
        }
        let mut entries = self.0.write();
        if let Some(value) = find(&entries) {
            return Ok(value);
        }
        let (alive, ended): (Vec<_>, Vec<_>) =
            entries.drain(..).partition(|entry| !entry.has_ended.load(Ordering::Acquire));
        *entries = alive;
        let value = Arc::new(make());
        entries.push(Entry::new(&runtime, Arc::clone(&value)));
        drop(entries);
        drop(ended);
        Ok(value)
    }

    /// The values of all runtimes that have not ended.
    pub fn all(&self) -> Vec<Arc<T>> {
        let entries = self.0.read();
        let alive = entries.iter().filter(|entry| !entry.has_ended.load(Ordering::Acquire));
        alive.map(|entry| Arc::clone(&entry.value)).collect()
    }
}

impl<T> Entry<T> {
    fn new(runtime: &Handle, value: Arc<T>) -> Self {
        let (sender, entry_lives) = oneshot::channel::<()>();
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = OnDrop { flag: Arc::clone(&has_ended), becomes: true };
        runtime.spawn(async move {
            let _ended = ended;
            let _dropped = entry_lives.await;
        });
        Self { runtime: runtime.id(), value, has_ended, _entry_lives: sender }
    }
}

impl<T> Default for PerRuntime<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> fmt::Debug for PerRuntime<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerRuntime").field("runtimes", &self.0.read().len()).finish()
    }
}

/// Sets a flag when a task ends, or is dropped with its runtime.
struct OnDrop {
    flag: Arc<AtomicBool>,
    becomes: bool,
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.flag.store(self.becomes, Ordering::Release);
    }
}

/// A task of which a handle has one in the process. It ends with its runtime, and the next call of
/// [`start`](Self::start) starts another one. It is aborted when this value is dropped.
#[derive(Default)]
pub struct BackgroundTask {
    runs: Arc<AtomicBool>,
    task: Mutex<Option<AbortHandle>>,
}

impl BackgroundTask {
    /// Whether the task runs. This is one atomic load.
    pub fn runs(&self) -> bool {
        self.runs.load(Ordering::Acquire)
    }

    /// Starts the task on the caller's runtime, unless it runs. The result says whether this call started it.
    /// Outside of a runtime no task starts.
    pub fn start<F>(&self, task: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.runs() {
            return false;
        }
        let Ok(runtime) = current_runtime() else { return false };
        let mut running = self.task.lock();
        if self.runs.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (ended, work) = (OnDrop { flag: Arc::clone(&self.runs), becomes: false }, task());
        let task = runtime.spawn(async move {
            let _ended = ended;
            work.await;
        });
        *running = Some(task.abort_handle());
        true
    }
}

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

impl fmt::Debug for BackgroundTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTask").field("runs", &self.runs()).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::ErrorKind;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_call_outside_of_a_runtime_and_in_one_without_timers_is_a_config_error() {
        assert_eq!(current_runtime().unwrap_err().kind(), ErrorKind::Config);
        let without_time = Builder::new_current_thread().build().unwrap();
        let error = without_time.block_on(async { current_runtime().unwrap_err() });
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("enable_time"), "{error}");
        runtime().block_on(async { current_runtime().unwrap() });
    }

    #[test]
    fn each_runtime_has_its_own_value_which_ends_with_it() {
        let values = PerRuntime::default();
        let (first, second) = (runtime(), runtime());
        assert_eq!(*first.block_on(async { values.get(|| 1) }).unwrap(), 1);
        assert_eq!(*second.block_on(async { values.get(|| 2) }).unwrap(), 2);
        assert_eq!(*first.block_on(async { values.get(|| 3) }).unwrap(), 1);
        assert_eq!(values.all().len(), 2);
        drop(first);
        assert_eq!(values.all().len(), 1);
        assert_eq!(*runtime().block_on(async { values.get(|| 4) }).unwrap(), 4);
        assert_eq!(values.0.read().len(), 2, "the value of the ended runtime is gone");
        assert_eq!(values.get(|| 5).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn values_of_a_thousand_runtimes_that_ended_leave_nothing() {
        let values = PerRuntime::default();
        for number in 0..1_000 {
            runtime().block_on(async { values.get(|| number) }).unwrap();
        }
        assert!(values.0.read().len() <= 2);
    }

    #[test]
    fn a_background_task_runs_once_and_starts_again_after_its_runtime() {
        let task = BackgroundTask::default();
        assert!(!task.start(std::future::pending), "there is no runtime");
        let first = runtime();
        first.block_on(async {
            assert!(task.start(std::future::pending));
            assert!(!task.start(std::future::pending));
        });
        assert!(task.runs());
        drop(first);
        assert!(!task.runs());
        runtime().block_on(async {
            assert!(task.start(|| async {}));
            tokio::task::yield_now().await;
            assert!(!task.runs(), "it has ended");
        });
    }
}
