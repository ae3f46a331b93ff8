//! The bounds of a batcher.

use std::time::Duration;

/// The bounds of a [`Batcher`](super::Batcher).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BatchLimits {
    /// How many calls may be under way alone. Above that, and until the queue is empty again, calls are
    /// batched.
    pub direct: usize,
    /// The most requests in one batch.
    pub batch: usize,
    /// The most bytes in one batch, as [`BatchCall::bytes`](super::BatchCall::bytes) counts them. A larger
    /// request is alone in its batch.
    pub bytes: usize,
    /// How many batches may be under way. With two, one fills while the other is under way. More are
    /// useful where the server takes several of them in a row on one connection.
    pub workers: usize,
    /// The most requests in the queue. Above that, a call is
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy).
    pub queue: usize,
    /// How long one call may take, with its time in the queue. `None` where the caller has a timer of its own.
    pub budget: Option<Duration>,
}

impl BatchLimits {
    /// Four direct calls, 512 requests of any size in a batch, two workers and 10,000 requests in the queue.
    pub const fn new(budget: Duration) -> Self {
        Self { direct: 4, batch: 512, bytes: usize::MAX, workers: 2, queue: 10_000, budget: Some(budget) }
    }

    /// The same limits without a timer: the caller bounds the time of each call.
    #[must_use]
    pub const fn without_budget(self) -> Self {
        Self { budget: None, ..self }
    }

    /// The same limits with this number of direct calls.
    #[must_use]
    pub const fn with_direct(self, direct: usize) -> Self {
        Self { direct, ..self }
    }

    /// The same limits with this number of requests in a batch.
    #[must_use]
    pub const fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// The same limits with this number of bytes in a batch.
    #[must_use]
    pub const fn with_bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// The same limits with this number of workers.
    #[must_use]
    pub const fn with_workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// The same limits with this number of requests in the queue.
    #[must_use]
    pub const fn with_queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }
}
