//! The load stage of a flight runs one load at a time. If the load panics, another caller takes over once; if
//! it is refused or ends with its runtime, another caller takes over, too.

use tokio::time::Instant;

use super::promise::Promise;
use super::sync::Mutex;
use crate::panics::PanicText;

/// How a load ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoadOutcome<T> {
    /// The load ended with a result that all callers get.
    Done(T),
    /// The load ended with this panic. After a panic, the loader of another caller may take over.
    Panicked(PanicText),
    /// The load was a renewal for which no caller waited, and was not started. The loader of a caller that
    /// waits for it by now may take over.
    Refused,
    /// The load ended with its runtime. The loader of another caller takes over.
    Abandoned,
}

/// The load stage of one flight.
pub(crate) struct LoadStage<T>(Mutex<Running<T>>);

struct Running<T> {
    /// The number of loads that have begun. Each after the first has taken over from the one before.
    attempt: u32,
    /// How many of them have panicked.
    panics: u8,
    /// When the last of them began. Most flights have no load, and read no clock for it.
    began: Option<Instant>,
    promise: Option<Promise<LoadOutcome<T>>>,
}

/// What a caller finds when it enters the load stage.
pub(crate) enum LoadRole<T: Clone> {
    /// The caller runs the load and keeps the promise.
    Leader(LeaderGuard<T>),
    /// Another caller's load is under way or done, and the caller waits for the promise. The second
    /// field is the number of that load.
    Follower(Promise<LoadOutcome<T>>, u32),
    /// Two loads have panicked, the second one with this text, and no third one is tried.
    GaveUp(PanicText),
}

/// The most loads of one flight that may panic. A load that was refused or ended with its runtime does not count:
/// each caller has one loader, so there are no more loads than callers.
const MAX_PANICS: u8 = 2;

impl<T: Clone> LoadStage<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Running { attempt: 0, panics: 0, began: None, promise: None }))
    }

    /// Enters the load stage with a loader. `seen` is the number of the load that this caller saw end without a
    /// result, or 0.
    pub(crate) fn enter(&self, seen: u32) -> LoadRole<T> {
        let mut running = self.0.lock();
        if let Some(promise) = &running.promise {
            if running.attempt > seen {
                return LoadRole::Follower(promise.clone(), running.attempt);
            }
            if let Some(LoadOutcome::Panicked(panic)) = promise.peek() {
                if running.panics + 1 >= MAX_PANICS {
                    return LoadRole::GaveUp(panic);
                }
                running.panics += 1;
            }
        }
        running.attempt += 1;
        running.began = Some(Instant::now());
        let promise = Promise::new();
        running.promise = Some(promise.clone());
        LoadRole::Leader(LeaderGuard { promise, kept: false, unkept: LoadOutcome::Abandoned })
    }

    /// The promise and the number of the load that has begun last, if any has.
    pub(crate) fn following(&self) -> Option<(Promise<LoadOutcome<T>>, u32)> {
        let running = self.0.lock();
        running.promise.clone().map(|promise| (promise, running.attempt))
    }

    /// When the last load began, or now if none has.
    pub(crate) fn began(&self) -> Instant {
        self.0.lock().began.unwrap_or_else(Instant::now)
    }

    /// The result of a load that has ended well.
    pub(crate) fn result(&self) -> Option<T> {
        match self.0.lock().promise.as_ref()?.peek()? {
            LoadOutcome::Done(value) => Some(value),
            LoadOutcome::Panicked(_) | LoadOutcome::Refused | LoadOutcome::Abandoned => None,
        }
    }
}

/// The guard that the leader of a load holds until the promise is kept. A guard that is dropped without
/// a result reports a panic or a shutdown, so that no follower waits for ever.
pub(crate) struct LeaderGuard<T: Clone> {
    promise: Promise<LoadOutcome<T>>,
    kept: bool,
    /// What the drop of the guard reports.
    unkept: LoadOutcome<T>,
}

impl<T: Clone> LeaderGuard<T> {
    pub(crate) fn promise(&self) -> Promise<LoadOutcome<T>> {
        self.promise.clone()
    }

    /// Notes a panic that was caught. The drop of the guard reports the panic.
    pub(crate) fn panicked(&mut self, panic: PanicText) {
        self.unkept = LoadOutcome::Panicked(panic);
    }

    /// Notes that the load is not started. The drop of the guard reports the refusal.
    pub(crate) fn refused(&mut self) {
        self.unkept = LoadOutcome::Refused;
    }

    pub(crate) fn done(mut self, value: T) {
        self.kept = true;
        self.promise.keep(LoadOutcome::Done(value));
    }
}

impl<T: Clone> Drop for LeaderGuard<T> {
    fn drop(&mut self) {
        if !self.kept {
            let unkept = std::mem::replace(&mut self.unkept, LoadOutcome::Abandoned);
            let unwinds = std::thread::panicking() && !matches!(unkept, LoadOutcome::Panicked(_));
            self.promise.keep(if unwinds { LoadOutcome::Panicked(PanicText::default()) } else { unkept });
        }
    }
}
