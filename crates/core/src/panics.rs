//! Panics of user code (loaders, codecs, policies, observers, tiers) become typed errors here.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use crate::{Error, ErrorKind, Result};

/// Gives the output of `future`, or [`ErrorKind::Panicked`] with the message `what` if the future
/// panics.
///
/// A shared future that panicked would wake none of its waiters, so each shared future runs behind this
/// guard.
///
/// This function is a combinator, because an async function would hold the future twice.
pub(crate) fn guarded<F: Future>(
    what: &'static str,
    future: F,
) -> impl Future<Output = Result<F::Output>> + use<F> {
    let error = move |_panic| Error::new(ErrorKind::Panicked, what);
    AssertUnwindSafe(future).catch_unwind().map(move |outcome| outcome.map_err(error))
}

/// Gives the result of a spawned write. A panic of the write, or the end of the runtime, becomes a typed
/// error.
pub(crate) async fn joined<T>(task: Result<JoinHandle<T>>) -> Result<T> {
    task?.await.map_err(|error| match error.is_panic() {
        true => Error::new(ErrorKind::Panicked, "a codec, policy or observer panicked during the write"),
        false => shut_down_error(),
    })
}

pub(crate) fn loader_panicked_error() -> Error {
    Error::new(ErrorKind::Panicked, "the loader panicked, and so did any loader that took over")
}

pub(crate) fn shut_down_error() -> Error {
    Error::new(ErrorKind::Closed, "the runtime in which the call was made has shut down")
}
