//! A value that many tasks wait for.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::sync::Mutex;

/// Kept once, then every waiter gets a clone, those that come later too.
///
/// A waiter that is dropped leaves nothing behind but a waker; the number of wakers is bounded by
/// the callers aboard.
pub(crate) struct Promise<T>(Arc<Mutex<State<T>>>);

enum State<T> {
    Open(Vec<Waker>),
    Kept(T),
}

impl<T: Clone> Promise<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::Open(Vec::new()))))
    }

    /// Gives the value to all waiters. A second value is ignored.
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
        woken.into_iter().for_each(Waker::wake);
    }

    /// The value, if it is there.
    pub(crate) fn peek(&self) -> Option<T> {
        match &*self.0.lock() {
            State::Kept(value) => Some(value.clone()),
            State::Open(_) => None,
        }
    }

    /// Waits for the value.
    pub(crate) fn wait(&self) -> Wait<T> {
        Wait(self.clone())
    }
}

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The future of [`Promise::wait`].
pub(crate) struct Wait<T>(Promise<T>);

impl<T: Clone> Future for Wait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut *self.0.0.lock() {
            State::Kept(value) => Poll::Ready(value.clone()),
            State::Open(wakers) => {
                if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}
