//! The gate before a server: concurrent calls share round trips, a lone call pays nothing for it.

use std::{
    collections::VecDeque,
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use crate::{Error, ErrorKind, Result};

/// What a [`Batcher`] sends: one request alone, or many in one round trip.
pub trait BatchCall: Send + Sync + 'static {
    /// What a caller asks.
    type Request: Send + 'static;
    /// The raw answer; each caller decodes its own, in its own task.
    type Reply: Send + 'static;

    /// One request alone, run in its caller's task.
    fn one(&self, request: Self::Request) -> impl Future<Output = Result<Self::Reply>> + Send;

    /// Many requests in one round trip: one reply a request, in order.
    fn many(&self, requests: Vec<Self::Request>) -> impl Future<Output = Result<Vec<Self::Reply>>> + Send;
}

/// The bounds of a [`Batcher`].
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// So many calls go out alone at a time; beyond, and until the queue is empty again, they share.
    pub direct: usize,
    /// The most requests of one batch.
    pub batch: usize,
    /// So many batches travel at a time: two, and one fills while the other is under way; more, where
    /// the server takes them one behind the other on one connection.
    pub workers: usize,
    /// The most requests in the queue; beyond, a call is [`ErrorKind::Busy`].
    pub queue: usize,
    /// How long one call may take, its time in the queue included.
    pub budget: Duration,
}

/// Lets concurrent calls share round trips.
///
/// While few calls are outstanding, each goes straight out in its caller's task. Above that, and
/// until no more come, they join a queue that a few drain tasks empty. A drain yields once, so that every caller that
/// is ready now joins, then makes one batched call under one timer. Callers may be cancelled at
/// any point. All calls of a gate have one budget: so the queue is in the order of the deadlines,
/// and a drain is always back in time to answer who is late.
///
/// # Errors
/// [`ErrorKind::Timeout`] after the budget, [`ErrorKind::Busy`] at the queue's bound,
/// [`ErrorKind::Backend`] where a drain panicked or was dropped with its runtime, and whatever the
/// [`BatchCall`] answers.
///
/// # Cost
/// A call alone: two atomic additions, one timer and one allocation. A queued call: one short lock and one
/// allocation; the timer and the trip are shared.
///
/// ```
/// use std::time::Duration;
/// use terrace_tier::{Batcher, BatchLimits, Result, BatchCall};
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
/// let limits = BatchLimits { direct: 4, batch: 512, workers: 2, queue: 10_000, budget: Duration::from_millis(50) };
/// let gate = Batcher::new(Double, limits);
/// assert_eq!(gate.call(21).await?, 42);
/// # Ok(())
/// # }
/// ```
pub struct Batcher<T: BatchCall>(Arc<Inner<T>>);

struct Inner<T: BatchCall> {
    trip: T,
    limits: BatchLimits,
    /// Calls that are out alone.
    direct: AtomicUsize,
    /// Whether a drain is at work: whoever comes then counts nothing, for in a crowd a count that
    /// all change costs more than the queue.
    draining: AtomicBool,
    queue: Mutex<Queue<T>>,
}

struct Queue<T: BatchCall> {
    waiting: VecDeque<(T::Request, Caller<T::Reply>)>,
    workers: usize,
}

/// Who waits for a reply, and until when.
struct Caller<R> {
    reply: oneshot::Sender<Result<R>>,
    deadline: Instant,
}

impl<T: BatchCall> Batcher<T> {
    /// A gate before `trip`.
    pub fn new(trip: T, limits: BatchLimits) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), workers: 0 });
        let (direct, draining) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self(Arc::new(Inner { trip, limits, direct, draining, queue }))
    }

    /// What the gate sends through.
    pub fn trip(&self) -> &T {
        &self.0.trip
    }

    /// One request and its reply, within the budget.
    pub async fn call(&self, request: T::Request) -> Result<T::Reply> {
        let inner = &self.0;
        if !inner.draining.load(Ordering::Relaxed) {
            let before = inner.direct.fetch_add(1, Ordering::Relaxed);
            let _leave = Leave(&inner.direct);
            if before < inner.limits.direct {
                let budget = inner.limits.budget;
                // Boxed: the calls of a crowd, which queue, would carry the room for it.
                return match timeout(budget, Box::pin(inner.trip.one(request))).await {
                    Ok(reply) => reply,
                    Err(_) => Err(Error::timeout(budget)),
                };
            }
        }
        match inner.join(request)?.await {
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
        f.debug_struct("Gate").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

/// Takes a call out of the count, whether it ended or was cancelled.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: BatchCall> Inner<T> {
    fn join(self: &Arc<Self>, request: T::Request) -> Result<oneshot::Receiver<Result<T::Reply>>> {
        let (reply, answer) = oneshot::channel();
        let caller = Caller { reply, deadline: Instant::now() + self.limits.budget };
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= self.limits.queue {
            return Err(Error::new(ErrorKind::Busy, "too many calls wait for this server"));
        }
        queue.waiting.push_back((request, caller));
        let seat = (queue.workers < self.limits.workers).then(|| {
            queue.workers += 1;
            self.draining.store(true, Ordering::Relaxed);
            Seat { gate: Arc::clone(self), held: true }
        });
        drop(queue);
        if let Some(seat) = seat {
            tokio::spawn(seat.drain());
        }
        Ok(answer)
    }

    fn end_drain(&self, queue: &mut Queue<T>) {
        queue.workers -= 1;
        self.draining.store(queue.workers > 0, Ordering::Relaxed);
    }
}

/// Requests and, in the same order, who waits for their replies.
type Batch<T> = (Vec<<T as BatchCall>::Request>, VecDeque<Caller<<T as BatchCall>::Reply>>);

/// A drain's place among the few.
struct Seat<T: BatchCall> {
    gate: Arc<Inner<T>>,
    held: bool,
}

impl<T: BatchCall> Seat<T> {
    async fn drain(mut self) {
        loop {
            // Fills the batch: callers that are ready now run first.
            tokio::task::yield_now().await;
            let Some(batch) = self.take() else { return };
            self.serve(batch).await;
        }
    }

    /// The next batch; on an empty queue the seat is given back under the same lock, so that no
    /// caller joins in between and finds nobody.
    fn take(&mut self) -> Option<Batch<T>> {
        let now = Instant::now();
        let mut late = Vec::new();
        let mut queue = self.gate.queue.lock();
        let most = queue.waiting.len().min(self.gate.limits.batch);
        let (mut requests, mut callers) = (Vec::with_capacity(most), VecDeque::with_capacity(most));
        while requests.len() < self.gate.limits.batch
            && let Some((request, caller)) = queue.waiting.pop_front()
        {
            if caller.deadline <= now {
                late.push(caller);
            } else if !caller.reply.is_closed() {
                requests.push(request);
                callers.push_back(caller);
            }
        }
        if requests.is_empty() {
            self.gate.end_drain(&mut queue);
            self.held = false;
        }
        drop(queue);
        late.into_iter().for_each(|caller| self.too_late(caller));
        self.held.then_some((requests, callers))
    }

    async fn serve(&self, (requests, mut callers): Batch<T>) {
        let mut skipped = 0;
        let mut call = pin!(self.gate.trip.many(requests));
        while let Some(first) = callers.front() {
            match timeout_at(first.deadline, &mut call).await {
                Ok(Ok(replies)) => {
                    // A caller without a reply sees its channel close: a typed error.
                    for (caller, reply) in callers.into_iter().zip(replies.into_iter().skip(skipped)) {
                        let _cancelled = caller.reply.send(Ok(reply));
                    }
                    return;
                }
                Ok(Err(error)) => {
                    for caller in callers {
                        let _cancelled = caller.reply.send(Err(error.clone()));
                    }
                    return;
                }
                Err(_) => {
                    let now = Instant::now();
                    let late = callers.iter().take_while(|caller| caller.deadline <= now).count();
                    callers.drain(..late).for_each(|caller| self.too_late(caller));
                    skipped += late;
                }
            }
        }
    }

    fn too_late(&self, caller: Caller<T::Reply>) {
        let _cancelled = caller.reply.send(Err(Error::timeout(self.gate.limits.budget)));
    }
}

impl<T: BatchCall> Drop for Seat<T> {
    /// A drain that panicked, or was dropped with its runtime, leaves nobody waiting: its own
    /// callers see their channels close, and so do those in the queue if no other drain is there.
    fn drop(&mut self) {
        if self.held {
            let mut queue = self.gate.queue.lock();
            self.gate.end_drain(&mut queue);
            let orphans =
                if queue.workers == 0 { std::mem::take(&mut queue.waiting) } else { VecDeque::new() };
            drop(queue);
            drop(orphans);
        }
    }
}

#[cfg(test)]
mod tests;
