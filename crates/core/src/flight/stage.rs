//! The load stage of a flight runs one load at a time. If the load panics, another caller takes over
//! once.

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
    /// The load ended because the cache's runtime shut down.
    Abandoned,
}

/// The load stage of one flight.
pub(crate) struct LoadStage<T>(Mutex<Running<T>>);

struct Running<T> {
    /// The number of loads that have begun. The second load has taken over from the first.
    attempt: u8,
    promise: Option<Promise<LoadOutcome<T>>>,
}

/// What a caller finds when it enters the load stage.
pub(crate) enum LoadRole<T: Clone> {
    /// The caller runs the load and keeps the promise.
    Leader(LeaderGuard<T>),
    /// Another caller's load is under way or done, and the caller waits for the promise. The second
    /// field is the number of that load.
    Follower(Promise<LoadOutcome<T>>, u8),
    /// Two loads have panicked, the second one with this text, and no third one is tried.
    GaveUp(PanicText),
}

/// The most loads that may be tried in one flight.
const ATTEMPTS: u8 = 2;

impl<T: Clone> LoadStage<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Running { attempt: 0, promise: None }))
    }

    /// Enters the load stage with a loader. `panicked` is the number of the load that this caller saw
    /// panic, or 0.
    pub(crate) fn enter(&self, panicked: u8) -> LoadRole<T> {
        let mut running = self.0.lock();
        match &running.promise {
            Some(promise) if running.attempt > panicked => {
                LoadRole::Follower(promise.clone(), running.attempt)
            }
            Some(promise) if running.attempt >= ATTEMPTS => LoadRole::GaveUp(match promise.peek() {
                Some(LoadOutcome::Panicked(panic)) => panic,
                _ => PanicText::default(),
            }),
            _ => {
                running.attempt += 1;
                let promise = Promise::new();
                running.promise = Some(promise.clone());
                LoadRole::Leader(LeaderGuard { promise, kept: false, panic: None })
            }
        }
    }

    /// The promise and the number of the load that has begun last, if any has.
    pub(crate) fn following(&self) -> Option<(Promise<LoadOutcome<T>>, u8)> {
        let running = self.0.lock();
        running.promise.clone().map(|promise| (promise, running.attempt))
    }

    /// The result of a load that has ended well.
    pub(crate) fn result(&self) -> Option<T> {
        match self.0.lock().promise.as_ref()?.peek()? {
            LoadOutcome::Done(value) => Some(value),
            LoadOutcome::Panicked(_) | LoadOutcome::Abandoned => None,
        }
    }
}

/// The guard that the leader of a load holds until the promise is kept. A guard that is dropped without
/// a result reports a panic or a shutdown, so that no follower waits for ever.
pub(crate) struct LeaderGuard<T: Clone> {
    promise: Promise<LoadOutcome<T>>,
    kept: bool,
    panic: Option<PanicText>,
}

impl<T: Clone> LeaderGuard<T> {
    pub(crate) fn promise(&self) -> Promise<LoadOutcome<T>> {
        self.promise.clone()
    }

    /// Notes a panic that was caught. The drop of the guard reports the panic.
    pub(crate) fn panicked(&mut self, panic: PanicText) {
        self.panic = Some(panic);
    }

    pub(crate) fn done(mut self, value: T) {
        self.kept = true;
        self.promise.keep(LoadOutcome::Done(value));
    }
}

impl<T: Clone> Drop for LeaderGuard<T> {
    fn drop(&mut self) {
        if !self.kept {
            let unwinds = || std::thread::panicking().then(PanicText::default);
            let panic = self.panic.take().or_else(unwinds);
            self.promise.keep(panic.map_or(LoadOutcome::Abandoned, LoadOutcome::Panicked));
        }
    }
}
