//! A promise holds a value that many tasks wait for.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use terrace_tier::runtime::current_runtime_id;
use tokio::runtime::Id;

use super::sync::Mutex;

/// A promise is kept once with a value. After that every waiter gets a clone of the value, and so does a
/// later waiter. A waiter that is dropped leaves no waker behind.
pub(crate) struct Promise<T>(Arc<Mutex<State<T>>>, Option<Id>);

enum State<T> {
    Open(Wakers),
    Kept(T),
}

/// The wakers of the tasks that wait. The index of a waiter that left is used again.
#[derive(Default)]
struct Wakers {
    entries: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    /// Keeps a waiter's waker, at the waiter's index if it has one. Returns the older waker of the same
    /// waiter, which the caller drops after the lock.
    fn keep(&mut self, index: &mut Option<usize>, waker: &Waker) -> Option<Waker> {
        let at = *index.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.entries.push(None);
                self.entries.len() - 1
            })
        });
        match &mut self.entries[at] {
            Some(known) if known.will_wake(waker) => None,
            kept => kept.replace(waker.clone()),
        }
    }

    fn leave(&mut self, at: usize) -> Option<Waker> {
        self.free.push(at);
        self.entries[at].take()
    }
}

impl<T: Clone> Promise<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::Open(Wakers::default()))), current_runtime_id())
    }

    /// The runtime of the caller that made the promise.
    pub(crate) fn runtime(&self) -> Option<Id> {
        self.1
    }

    /// Gives the value to all waiters. A second value of the promise is ignored.
    pub(crate) fn keep(&self, value: T) {
        let woken = {
            let mut state = self.0.lock();
            match std::mem::replace(&mut *state, State::Kept(value)) {
                State::Open(wakers) => wakers,
                first @ State::Kept(_) => {
                    *state = first;
                    return;
                }
            }
        };
        woken.entries.into_iter().flatten().for_each(Waker::wake);
    }

    /// The value, if the promise has been kept.
    pub(crate) fn peek(&self) -> Option<T> {
        match &*self.0.lock() {
            State::Kept(value) => Some(value.clone()),
            State::Open(_) => None,
        }
    }

    /// Waits for the value.
    pub(crate) fn wait(&self) -> Wait<T> {
        Wait { promise: self.clone(), index: None }
    }
}

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), self.1)
    }
}

/// The future of [`Promise::wait`].
pub(crate) struct Wait<T> {
    promise: Promise<T>,
    index: Option<usize>,
}

impl<T: Clone> Future for Wait<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { promise, index } = &mut *self;
        let mut state = promise.0.lock();
        let replaced = match &mut *state {
            State::Kept(value) => return Poll::Ready(value.clone()),
            State::Open(wakers) => wakers.keep(index, cx.waker()),
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        let Some(at) = self.index else { return };
        let mut state = self.promise.0.lock();
        let left = match &mut *state {
            State::Open(wakers) => wakers.leave(at),
            State::Kept(_) => None,
        };
        drop(state);
        drop(left);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use futures_util::poll;

    use super::*;

    fn wakers<T>(promise: &Promise<T>) -> usize {
        match &*promise.0.lock() {
            State::Open(wakers) => wakers.entries.iter().flatten().count(),
            State::Kept(_) => 0,
        }
    }

    #[tokio::test]
    async fn a_waiter_that_is_dropped_leaves_no_waker_and_its_place_is_used_again() {
        let promise = Promise::new();
        let mut stays = promise.wait();
        assert!(poll!(&mut stays).is_pending());
        for _ in 0..1_000 {
            let mut leaves = promise.wait();
            assert!(poll!(&mut leaves).is_pending());
            assert_eq!(wakers(&promise), 2);
        }
        assert_eq!(wakers(&promise), 1);
        assert!(matches!(&*promise.0.lock(), State::Open(wakers) if wakers.entries.len() == 2));
        promise.keep(7);
        assert_eq!(stays.await, 7);
    }
}
