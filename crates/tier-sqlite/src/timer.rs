//! Time limits of calls, on a timer of their own.
//!
//! The database works in threads of its own. tokio's clock, when a test has paused it, jumps to the next timer
//! whenever tokio itself has nothing to do, and so would end each call at once.

use std::time::Duration;

use futures_timer::Delay;
use futures_util::future::{Either, select};

/// The output of `call`, or `None` after `budget`.
///
/// # Cost
/// One allocation for the timer, which runs in a thread that the process has once.
pub(crate) async fn within<F: Future>(budget: Duration, call: F) -> Option<F::Output> {
    match select(std::pin::pin!(call), Delay::new(budget)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
