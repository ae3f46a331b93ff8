//! Lets concurrent calls to a server share round trips. A lone call pays nothing for it.

mod limits;
mod sending;
mod worker;

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::{
    Error, ErrorKind, Result,
    runtime::{PerRuntime, within},
};
use worker::Shared;

pub use limits::BatchLimits;
pub use sending::{SendMark, SendWatch};

/// What a [`Batcher`] sends: one request alone, or many requests in one round trip.
pub trait BatchCall: Send + Sync + 'static {
    /// What a caller asks.
    type Request: Send + 'static;
    /// The raw answer. Each caller decodes its own answer, in its own task.
    type Reply: Send + 'static;

    /// Sends one request alone, in its caller's task.
    fn one(&self, request: Self::Request) -> impl Future<Output = Result<Self::Reply>> + Send;

    /// Sends many requests in one round trip, and returns one reply for each request, in order.
    ///
    /// An error is the answer to all of them. Where each request has an outcome of its own, the reply is a
    /// [`Result`].
    fn many(&self, requests: Vec<Self::Request>) -> impl Future<Output = Result<Vec<Self::Reply>>> + Send;

    /// The bytes that `request` adds to a batch, for [`BatchLimits::bytes`]. By default requests count
    /// nothing. It is called under the lock of the queue, so it only reads a length.
    fn bytes(&self, request: &Self::Request) -> usize {
        let _ = request;
        0
    }
}

/// Lets concurrent calls share round trips.
///
/// While few calls are under way, each of them is sent at once, in its caller's task. Above
/// [`BatchLimits::direct`], and until the queue is empty again, calls wait in a queue that a few worker
/// tasks empty. A worker yields once, so that every caller that is ready now can join, and then makes one
/// batched call under one timer. A caller may be cancelled at any point. What is known of a write whose caller
/// got no reply is decided by a [`SendWatch`].
///
/// Each runtime has a queue and workers of its own, so that no call waits for a worker that ends with another
/// runtime.
///
/// All calls of a batcher have the same budget. The queue is therefore in the order of the deadlines, and a
/// worker always returns in time to answer a caller that is late.
///
/// # Errors
/// - [`ErrorKind::Timeout`] after the budget.
/// - [`ErrorKind::Busy`] if the queue is full.
/// - [`ErrorKind::Backend`] if a worker panicked.
/// - [`ErrorKind::Config`] outside of a tokio runtime with timers.
/// - Every error of the [`BatchCall`].
///
/// # Cost
/// A direct call: two atomic additions, two short locks for its deadline and one allocation. A queued call: one short
/// lock and one allocation, while the deadline and the round trip are shared.
///
/// ```
/// use std::time::Duration;
/// use terrace_tier::{BatchCall, BatchLimits, Batcher, Result};
///
/// /// A server that doubles numbers.
/// struct Double;
///
/// impl BatchCall for Double {
///     type Request = u64;
///     type Reply = u64;
///
///     async fn one(&self, request: u64) -> Result<u64> {
///         Ok(request * 2)
///     }
///
///     async fn many(&self, requests: Vec<u64>) -> Result<Vec<u64>> {
///         Ok(requests.into_iter().map(|request| request * 2).collect())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let limits = BatchLimits::new(Duration::from_millis(50)).with_direct(4).with_batch(512);
/// let batcher = Batcher::new(Double, limits);
/// assert_eq!(batcher.call(21).await?, 42);
/// # Ok(())
/// # }
/// ```
pub struct Batcher<T: BatchCall>(Arc<Queues<T>>);

struct Queues<T: BatchCall> {
    call: Arc<T>,
    limits: BatchLimits,
    per_runtime: PerRuntime<Shared<T>>,
}

impl<T: BatchCall> Batcher<T> {
    /// A batcher that sends through `call`.
    pub fn new(call: T, limits: BatchLimits) -> Self {
        Self(Arc::new(Queues { call: Arc::new(call), limits, per_runtime: PerRuntime::default() }))
    }

    /// The [`BatchCall`] that the batcher was made over.
    pub fn get_ref(&self) -> &T {
        &self.0.call
    }

    fn shared(&self) -> Result<Arc<Shared<T>>> {
        self.0.per_runtime.get(|| Shared::new(Arc::clone(&self.0.call), self.0.limits))
    }

    /// Sends one request and returns its reply, within the budget.
    ///
    /// # Errors
    /// As listed for the [`Batcher`].
    pub async fn call(&self, request: T::Request) -> Result<T::Reply> {
        let shared = self.shared()?;
        if let Some(_direct) = shared.enter_direct() {
            let budget = shared.limits.budget;
            // Boxed, so that queued callers do not pay for the stack size of a direct call.
            let call = Box::pin(shared.call.one(request));
            let Some(budget) = budget else { return call.await };
            return within(Instant::now() + budget, call)
                .await?
                .unwrap_or_else(|| Err(Error::timeout(budget)));
        }
        match shared.enqueue(request)?.await {
            Ok(reply) => reply,
            Err(_) => Err(Error::new(ErrorKind::Backend, "the batch ended without an answer")),
        }
    }
}

impl<T: BatchCall> Clone for Batcher<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: BatchCall> fmt::Debug for Batcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
