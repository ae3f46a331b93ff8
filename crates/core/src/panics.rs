//! Panics of user code (loaders, codecs, policies, observers, tiers) become typed errors here.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tokio::task::{JoinError, JoinHandle};

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
    caught(future).map(move |outcome| outcome.map_err(|panic| panicked_error(what, &panic)))
}

/// What a panic said: the text of `panic!`, cut to a bound. A panic with another payload says nothing.
pub(crate) type PanicText = Arc<str>;

/// The most bytes of a panic's text that an error shows.
const PANIC_BYTES: usize = 1_000;

/// Gives the output of `future`, or the text of its panic.
pub(crate) fn caught<F: Future>(future: F) -> impl Future<Output = Result<F::Output, PanicText>> + use<F> {
    AssertUnwindSafe(future).catch_unwind().map(|outcome| outcome.map_err(|payload| panic_text(&*payload)))
}

fn panic_text(payload: &(dyn Any + Send)) -> PanicText {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    text[..text.floor_char_boundary(PANIC_BYTES)].into()
}

fn panicked_error(what: &str, panic: &str) -> Error {
    let message = if panic.is_empty() { what.to_owned() } else { format!("{what}: {panic}") };
    Error::new(ErrorKind::Panicked, message)
}

/// Gives the result of a spawned write. A panic of the write, or the end of the runtime, becomes a typed
/// error.
pub(crate) async fn joined<T>(task: Result<JoinHandle<T>>) -> Result<T> {
    task_result(task?.await)
}

/// The result of a write whose task has ended.
pub(crate) fn task_result<T>(ended: Result<T, JoinError>) -> Result<T> {
    ended.map_err(|error| match error.try_into_panic() {
        Ok(payload) => write_panicked_error(&*payload),
        Err(_shut_down) => shut_down_error(),
    })
}

/// The error of a write that panicked with this payload.
pub(crate) fn write_panicked_error(payload: &(dyn Any + Send)) -> Error {
    panicked_error(WRITE_PANICKED, &panic_text(payload))
}

const WRITE_PANICKED: &str = "a codec, policy or observer panicked during the write";

/// The error of a load whose loader panicked with this text, as did any loader that took over.
pub(crate) fn loader_panicked_error(panic: &str) -> Error {
    panicked_error("the loader panicked", panic)
}

pub(crate) fn shut_down_error() -> Error {
    Error::new(ErrorKind::Closed, "the runtime in which the call was made has shut down")
}
