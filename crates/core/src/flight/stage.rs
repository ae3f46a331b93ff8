//! The load stage of a flight: one load at a time. Where it panics, another caller takes over once.

use super::promise::Promise;
use super::sync::Mutex;

/// How a load ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoadOutcome<T> {
    /// With a result that all callers get.
    Done(T),
    /// With a panic: the loader of another caller may take over.
    Panicked,
    /// With the shutdown of the cache's runtime.
    Abandoned,
}

/// The load stage.
pub(crate) struct LoadStage<T>(Mutex<Running<T>>);

struct Running<T> {
    /// Loads that have begun; the second one has taken over from the first.
    attempt: u8,
    promise: Option<Promise<LoadOutcome<T>>>,
}

/// What a caller finds when it enters the load stage.
pub(crate) enum LoadRole<T: Clone> {
    /// It runs the load and keeps the promise.
    Leader(LeaderGuard<T>),
    /// Another caller's load is under way or done: wait for the promise. The number is that of the load.
    Follower(Promise<LoadOutcome<T>>, u8),
    /// Two loads have panicked: there is no third.
    GaveUp,
}

/// Loads that may be tried in one flight.
const ATTEMPTS: u8 = 2;

impl<T: Clone> LoadStage<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Running { attempt: 0, promise: None }))
    }

    /// Enters with a loader. `panicked` is the number of the load that this caller saw panic, else 0.
    pub(crate) fn enter(&self, panicked: u8) -> LoadRole<T> {
        let mut running = self.0.lock();
        match &running.promise {
            Some(promise) if running.attempt > panicked => {
                LoadRole::Follower(promise.clone(), running.attempt)
            }
            Some(_) if running.attempt >= ATTEMPTS => LoadRole::GaveUp,
            _ => {
                running.attempt += 1;
                let promise = Promise::new();
                running.promise = Some(promise.clone());
                LoadRole::Leader(LeaderGuard { promise, kept: false, panicked: false })
            }
        }
    }

    /// The result of a load that has ended well.
    pub(crate) fn result(&self) -> Option<T> {
        match self.0.lock().promise.as_ref()?.peek()? {
            LoadOutcome::Done(value) => Some(value),
            LoadOutcome::Panicked | LoadOutcome::Abandoned => None,
        }
    }
}

/// Held by the leader of a load until its promise is kept. Dropped without a result it reports a panic or
/// a shutdown, so that no follower waits for ever.
pub(crate) struct LeaderGuard<T: Clone> {
    promise: Promise<LoadOutcome<T>>,
    kept: bool,
    panicked: bool,
}

impl<T: Clone> LeaderGuard<T> {
    pub(crate) fn promise(&self) -> Promise<LoadOutcome<T>> {
        self.promise.clone()
    }

    /// Notes a panic that was caught: it is reported when the guard is dropped.
    pub(crate) fn panicked(&mut self) {
        self.panicked = true;
    }

    pub(crate) fn done(mut self, value: T) {
        self.kept = true;
        self.promise.keep(LoadOutcome::Done(value));
    }
}

impl<T: Clone> Drop for LeaderGuard<T> {
    fn drop(&mut self) {
        if !self.kept {
            let panicked = self.panicked || std::thread::panicking();
            self.promise.keep(if panicked { LoadOutcome::Panicked } else { LoadOutcome::Abandoned });
        }
    }
}
