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

/// What a [`Gate`] sends: one request alone, or many in one round trip.
pub trait Trip: Send + Sync + 'static {
    /// What a caller asks.
    type Request: Send + 'static;
    /// The raw answer; each caller decodes its own, in its own task.
    type Reply: Send + 'static;

    /// One request alone, run in its caller's task.
    fn one(&self, request: Self::Request) -> impl Future<Output = Result<Self::Reply>> + Send;

    /// Many requests in one round trip: one reply a request, in order.
    fn many(&self, requests: Vec<Self::Request>) -> impl Future<Output = Result<Vec<Self::Reply>>> + Send;
}

/// The bounds of a [`Gate`].
#[derive(Clone, Copy, Debug)]
pub struct GateLimits {
    /// So many calls go out alone at a time; beyond, and until the queue is empty again, they share.
    pub direct: usize,
    /// The most requests of one batch.
    pub batch: usize,
    /// So many batches travel at a time: two, and one fills while the other is under way; more, where
    /// the server takes them one behind the other on one connection.
    pub drains: usize,
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
/// [`Trip`] answers.
///
/// # Cost
/// A call alone: two atomic additions, one timer and one allocation. A queued call: one short lock and one
/// allocation; the timer and the trip are shared.
///
/// ```
/// use std::time::Duration;
/// use terrace_core::{Gate, GateLimits, Result, Trip};
///
/// /// A server that doubles numbers.
/// struct Double;
///
/// impl Trip for Double {
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
/// let limits = GateLimits { direct: 4, batch: 512, drains: 2, queue: 10_000, budget: Duration::from_millis(50) };
/// let gate = Gate::new(Double, limits);
/// assert_eq!(gate.call(21).await?, 42);
/// # Ok(())
/// # }
/// ```
pub struct Gate<T: Trip>(Arc<Inner<T>>);

struct Inner<T: Trip> {
    trip: T,
    limits: GateLimits,
    /// Calls that are out alone.
    direct: AtomicUsize,
    /// Whether a drain is at work: whoever comes then counts nothing, for in a crowd a count that
    /// all change costs more than the queue.
    draining: AtomicBool,
    queue: Mutex<Queue<T>>,
}

struct Queue<T: Trip> {
    waiting: VecDeque<(T::Request, Caller<T::Reply>)>,
    drains: usize,
}

/// Who waits for a reply, and until when.
struct Caller<R> {
    reply: oneshot::Sender<Result<R>>,
    deadline: Instant,
}

impl<T: Trip> Gate<T> {
    /// A gate before `trip`.
    pub fn new(trip: T, limits: GateLimits) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), drains: 0 });
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

impl<T: Trip> Clone for Gate<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Trip> fmt::Debug for Gate<T> {
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

impl<T: Trip> Inner<T> {
    fn join(self: &Arc<Self>, request: T::Request) -> Result<oneshot::Receiver<Result<T::Reply>>> {
        let (reply, answer) = oneshot::channel();
        let caller = Caller { reply, deadline: Instant::now() + self.limits.budget };
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= self.limits.queue {
            return Err(Error::new(ErrorKind::Busy, "too many calls wait for this server"));
        }
        queue.waiting.push_back((request, caller));
        let seat = (queue.drains < self.limits.drains).then(|| {
            queue.drains += 1;
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
        queue.drains -= 1;
        self.draining.store(queue.drains > 0, Ordering::Relaxed);
    }
}

/// Requests and, in the same order, who waits for their replies.
type Batch<T> = (Vec<<T as Trip>::Request>, VecDeque<Caller<<T as Trip>::Reply>>);

/// A drain's place among the few.
struct Seat<T: Trip> {
    gate: Arc<Inner<T>>,
    held: bool,
}

impl<T: Trip> Seat<T> {
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

impl<T: Trip> Drop for Seat<T> {
    /// A drain that panicked, or was dropped with its runtime, leaves nobody waiting: its own
    /// callers see their channels close, and so do those in the queue if no other drain is there.
    fn drop(&mut self) {
        if self.held {
            let mut queue = self.gate.queue.lock();
            self.gate.end_drain(&mut queue);
            let orphans =
                if queue.drains == 0 { std::mem::take(&mut queue.waiting) } else { VecDeque::new() };
            drop(queue);
            drop(orphans);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(50);
    const LIMITS: GateLimits = GateLimits { direct: 2, batch: 8, drains: 2, queue: 100, budget: BUDGET };

    /// Answers each request with itself after `delay`, and keeps what it was asked.
    struct Echo {
        delay: Duration,
        asked: Mutex<Vec<Vec<u32>>>,
    }

    const PANIC: u32 = 1_000;
    const FAIL: u32 = 2_000;
    const SHORT: u32 = 3_000;

    impl Trip for Echo {
        type Request = u32;
        type Reply = u32;

        async fn one(&self, request: u32) -> Result<u32> {
            let mut replies = self.many(vec![request]).await?;
            replies.pop().ok_or_else(|| Error::new(ErrorKind::Backend, "no reply"))
        }

        async fn many(&self, mut requests: Vec<u32>) -> Result<Vec<u32>> {
            self.asked.lock().push(requests.clone());
            tokio::time::sleep(self.delay).await;
            assert!(!requests.contains(&PANIC), "asked to panic");
            if requests.contains(&FAIL) {
                return Err(Error::new(ErrorKind::Unavailable, "asked to fail"));
            }
            requests.retain(|request| *request != SHORT);
            Ok(requests)
        }
    }

    fn gate(delay_ms: u64, limits: GateLimits) -> Gate<Echo> {
        Gate::new(Echo { delay: Duration::from_millis(delay_ms), asked: Mutex::new(Vec::new()) }, limits)
    }

    fn start(gate: &Gate<Echo>, requests: impl IntoIterator<Item = u32>) -> Vec<Task> {
        let spawn = |request| {
            let gate = gate.clone();
            tokio::spawn(async move { gate.call(request).await })
        };
        requests.into_iter().map(spawn).collect()
    }

    type Task = tokio::task::JoinHandle<Result<u32>>;

    async fn end(tasks: Vec<Task>) -> Vec<Result<u32, ErrorKind>> {
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap().map_err(|error| error.kind()));
        }
        answers
    }

    fn batches(gate: &Gate<Echo>) -> Vec<usize> {
        gate.trip().asked.lock().iter().map(Vec::len).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn few_calls_go_out_alone() {
        let gate = gate(5, LIMITS);
        assert_eq!(end(start(&gate, 0..2)).await, [Ok(0), Ok(1)]);
        assert_eq!(batches(&gate), [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_above_the_direct_limit_share_batches_and_get_their_own_replies() {
        let gate = gate(5, LIMITS);
        let started = Instant::now();
        let answers = end(start(&gate, 0..26)).await;
        assert_eq!(answers, (0..26).map(Ok).collect::<Vec<_>>());
        assert_eq!(batches(&gate), [1, 1, 8, 8, 8]);
        assert_eq!(started.elapsed(), Duration::from_millis(10), "two batches at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_at_rest_goes_back_to_direct_calls() {
        let gate = gate(5, LIMITS);
        end(start(&gate, 0..10)).await;
        assert_eq!(gate.call(7).await.unwrap(), 7);
        assert_eq!(batches(&gate), [1, 1, 8, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once() {
        let gate = gate(5, GateLimits { queue: 3, ..LIMITS });
        let answers = end(start(&gate, 0..6)).await;
        assert_eq!(answers, [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4), Err(ErrorKind::Busy)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_counts_the_time_in_the_queue() {
        let gate = gate(40, GateLimits { direct: 0, batch: 1, ..LIMITS });
        let started = Instant::now();
        let answers = end(start(&gate, 0..6)).await;
        let timeout = Err(ErrorKind::Timeout);
        assert_eq!(answers, [Ok(0), Ok(1), timeout, timeout, timeout, timeout]);
        assert!(started.elapsed() <= BUDGET + Duration::from_millis(2), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_caller_of_a_batch_leaves_the_others_their_time() {
        let gate = gate(60, GateLimits { direct: 0, batch: 2, ..LIMITS });
        // Two batches that nobody survives keep both drains away for 50 ms.
        let blocked = start(&gate, 0..4);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let early = start(&gate, 4..5);
        tokio::time::sleep(Duration::from_millis(30)).await;
        let later = start(&gate, 5..6);
        assert_eq!(end(blocked).await, vec![Err(ErrorKind::Timeout); 4]);
        assert_eq!(end(early).await, [Err(ErrorKind::Timeout)]);
        let started = Instant::now();
        assert_eq!(end(later).await, [Err(ErrorKind::Timeout)]);
        assert!(started.elapsed() >= Duration::from_millis(28), "{:?}", started.elapsed());
        assert_eq!(batches(&gate), [2, 2, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_direct_call_keeps_the_budget() {
        let gate = gate(10_000, LIMITS);
        let started = Instant::now();
        assert_eq!(gate.call(1).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(started.elapsed() <= BUDGET + Duration::from_millis(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_the_batch_reaches_every_caller() {
        let gate = gate(5, GateLimits { direct: 0, ..LIMITS });
        let answers = end(start(&gate, [1, FAIL, 3])).await;
        assert_eq!(answers, vec![Err(ErrorKind::Unavailable); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_is_missing_is_a_typed_error() {
        let gate = gate(5, GateLimits { direct: 0, ..LIMITS });
        assert_eq!(end(start(&gate, [1, SHORT])).await, [Ok(1), Err(ErrorKind::Backend)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panicking_drain_leaves_nobody_waiting() {
        let gate = gate(5, GateLimits { direct: 0, batch: 1, ..LIMITS });
        let answers = end(start(&gate, vec![PANIC; 6])).await;
        assert_eq!(answers, vec![Err(ErrorKind::Backend); 6]);
        assert_eq!(gate.call(9).await.unwrap(), 9, "the gate works on");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_callers_are_not_sent_and_free_their_places() {
        let gate = gate(5, GateLimits { batch: 4, ..LIMITS });
        let tasks = start(&gate, 0..20);
        tokio::task::yield_now().await;
        tasks.iter().skip(2).for_each(tokio::task::JoinHandle::abort);
        for task in tasks {
            let _aborted = task.await;
        }
        tokio::time::sleep(BUDGET).await;
        assert_eq!(gate.0.direct.load(Ordering::Relaxed), 0);
        let sent: usize = batches(&gate).iter().sum();
        assert!(sent <= 10, "two direct calls and at most two batches, not {sent} requests");
        assert_eq!(end(start(&gate, 0..2)).await, [Ok(0), Ok(1)]);
    }

    #[test]
    fn a_runtime_that_ends_leaves_nobody_waiting() {
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let (doomed, other) = (build().unwrap(), build().unwrap());
        let limits = GateLimits { direct: 0, batch: 1, budget: Duration::from_secs(60), ..LIMITS };
        let gate = gate(20_000, limits);
        let waiting = || gate.0.queue.lock().waiting.len();
        // Both drains run on the runtime that ends; a caller of the other one waits for them.
        let _lost = doomed.block_on(async { start(&gate, 0..2) });
        while batches(&gate).len() < LIMITS.drains {
            std::thread::yield_now();
        }
        let left = other.block_on(async { start(&gate, 5..6) });
        while waiting() == 0 {
            std::thread::yield_now();
        }
        doomed.shutdown_background();
        assert_eq!(other.block_on(end(left)), [Err(ErrorKind::Backend)]);
        assert_eq!(gate.0.queue.lock().drains, 0);
    }
}
