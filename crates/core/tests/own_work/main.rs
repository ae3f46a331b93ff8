//! Loads and writes that their callers poll: callers that are dropped, hold a call without polling it, or are
//! polled elsewhere.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod loads;
mod locked;
mod writes;

use std::{future::poll_fn, pin::pin, task::Poll};

/// Polls a call so many times, and drops it when it is woken once more. Gives the call's output, if it ended before.
async fn left_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let (mut call, mut left) = (pin!(call), polls);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(cx).map(Some)
    })
    .await
}
