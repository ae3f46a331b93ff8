//! The queue of a batcher, and the workers that empty it.

use std::{
    collections::VecDeque,
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{BatchCall, BatchLimits};
use crate::{Error, ErrorKind, Result, runtime::within};

/// What all clones of a batcher share with its workers.
pub(super) struct Shared<T: BatchCall> {
    pub(super) call: Arc<T>,
    pub(super) limits: BatchLimits,
    /// How many direct calls are under way.
    pub(super) direct: AtomicUsize,
    /// Whether a worker runs. Callers then do not count themselves: under load, a counter that every
    /// caller changes costs more than the queue.
    busy: AtomicBool,
    pub(super) queue: Mutex<Queue<T>>,
}

pub(super) struct Queue<T: BatchCall> {
    pub(super) waiting: VecDeque<(T::Request, Caller<T::Reply>)>,
    pub(super) workers: usize,
}

/// A caller that waits for its reply until a deadline.
pub(super) struct Caller<R> {
    reply: oneshot::Sender<Result<R>>,
    /// `None` where the caller has a timer of its own.
    deadline: Option<Instant>,
}

impl<R> Caller<R> {
    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Counts a direct call until it ends or is cancelled.
pub(super) struct DirectCall<'a>(&'a AtomicUsize);

impl Drop for DirectCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: BatchCall> Shared<T> {
    pub(super) fn new(call: Arc<T>, limits: BatchLimits) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), workers: 0 });
        Self { call, limits, direct: AtomicUsize::new(0), busy: AtomicBool::new(false), queue }
    }

    /// Permission to send a call at once; `None` where it must join the queue.
    pub(super) fn enter_direct(&self) -> Option<DirectCall<'_>> {
        if self.busy.load(Ordering::Relaxed) {
            return None;
        }
        let before = self.direct.fetch_add(1, Ordering::Relaxed);
        let direct = DirectCall(&self.direct);
        (before < self.limits.direct).then_some(direct)
    }

    /// Queues a request and, if there may be one more worker, starts it.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        request: T::Request,
    ) -> Result<oneshot::Receiver<Result<T::Reply>>> {
        let (reply, answer) = oneshot::channel();
        let caller = Caller { reply, deadline: self.limits.budget.map(|budget| Instant::now() + budget) };
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= self.limits.queue {
            return Err(Error::new(ErrorKind::Busy, "too many calls wait for this server"));
        }
        queue.waiting.push_back((request, caller));
        let worker = (queue.workers < self.limits.workers).then(|| {
            queue.workers += 1;
            self.busy.store(true, Ordering::Relaxed);
            Worker { shared: Arc::clone(self), counted: true }
        });
        drop(queue);
        if let Some(worker) = worker {
            tokio::spawn(worker.run());
        }
        Ok(answer)
    }

    fn end_worker(&self, queue: &mut Queue<T>) {
        queue.workers -= 1;
        self.busy.store(queue.workers > 0, Ordering::Relaxed);
    }
}

/// Requests and, in the same order, the callers that wait for their replies.
type Batch<T> = (Vec<<T as BatchCall>::Request>, VecDeque<Caller<<T as BatchCall>::Reply>>);

/// Sends batches until the queue is empty.
struct Worker<T: BatchCall> {
    shared: Arc<Shared<T>>,
    /// Whether [`Queue::workers`] still counts this worker.
    counted: bool,
}

impl<T: BatchCall> Worker<T> {
    async fn run(mut self) {
        loop {
            // Callers that are ready now run first, which fills the batch.
            tokio::task::yield_now().await;
            let Some(batch) = self.next_batch() else { return };
            self.send(batch).await;
        }
    }

    /// The next batch. If the queue is empty, the worker ends under the same lock, so that no caller can
    /// queue a request in between and find no worker.
    fn next_batch(&mut self) -> Option<Batch<T>> {
        let now = Instant::now();
        let mut late = Vec::new();
        let mut queue = self.shared.queue.lock();
        let limits = &self.shared.limits;
        let most = queue.waiting.len().min(limits.batch);
        let (mut requests, mut callers) = (Vec::with_capacity(most), VecDeque::with_capacity(most));
        let mut bytes = 0_usize;
        while requests.len() < limits.batch
            && let Some((request, caller)) = queue.waiting.pop_front()
        {
            if caller.is_late(now) {
                late.push(caller);
            } else if !caller.reply.is_closed() {
                bytes = bytes.saturating_add(self.shared.call.bytes(&request));
                if bytes > limits.bytes && !requests.is_empty() {
                    queue.waiting.push_front((request, caller));
                    break;
                }
                requests.push(request);
                callers.push_back(caller);
            }
        }
        if requests.is_empty() {
            self.shared.end_worker(&mut queue);
            self.counted = false;
        }
        drop(queue);
        late.into_iter().for_each(|caller| self.time_out(caller));
        self.counted.then_some((requests, callers))
    }

    async fn send(&self, (requests, mut callers): Batch<T>) {
        let mut skipped = 0;
        let mut call = pin!(self.shared.call.many(requests));
        while let Some(first) = callers.front() {
            let answer = match first.deadline {
                Some(deadline) => within(deadline, &mut call).await.unwrap_or_else(|error| Some(Err(error))),
                None => Some((&mut call).await),
            };
            match answer {
                Some(Ok(replies)) => {
                    // A caller without a reply sees its channel close, which is a typed error.
                    for (caller, reply) in callers.into_iter().zip(replies.into_iter().skip(skipped)) {
                        let _cancelled = caller.reply.send(Ok(reply));
                    }
                    return;
                }
                Some(Err(error)) => {
                    for caller in callers {
                        let _cancelled = caller.reply.send(Err(error.clone()));
                    }
                    return;
                }
                None => {
                    let now = Instant::now();
                    let late = callers.iter().take_while(|caller| caller.is_late(now)).count();
                    callers.drain(..late).for_each(|caller| self.time_out(caller));
                    skipped += late;
                }
            }
        }
    }

    fn time_out(&self, caller: Caller<T::Reply>) {
        let budget = self.shared.limits.budget.unwrap_or_default();
        let _cancelled = caller.reply.send(Err(Error::timeout(budget)));
    }
}

impl<T: BatchCall> Drop for Worker<T> {
    /// No caller waits for a worker that panicked or was dropped with its runtime: the callers in its batch
    /// see their channels close, and so do the callers in the queue if there is no other worker.
    fn drop(&mut self) {
        if self.counted {
            let mut queue = self.shared.queue.lock();
            self.shared.end_worker(&mut queue);
            let orphans = if queue.workers == 0 { mem::take(&mut queue.waiting) } else { VecDeque::new() };
            drop(queue);
            drop(orphans);
        }
    }
}
