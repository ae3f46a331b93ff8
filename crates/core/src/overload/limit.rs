//! A limit bounds how much work of one kind is under way at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A bound on the work of one kind that is under way, with a queue in front of it. The queue is as long
/// as the bound, and its order is the order of arrival.
pub(crate) struct Limit {
    permits: Arc<Semaphore>,
    max: usize,
    waiting: AtomicUsize,
}

/// The permission to work. Its drop ends the work.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Limit {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(max)), max, waiting: AtomicUsize::new(0) }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// How much work is under way.
    pub(crate) fn under_way(&self) -> usize {
        self.max.saturating_sub(self.permits.available_permits())
    }

    /// How many wait in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The permission, if it is free and nobody waits for it.
    pub(crate) fn try_enter(&self) -> Option<Permit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Waits for the permission, for at most `patience`. `None` says that the queue is full or that the
    /// patience is over. A future that is dropped leaves the queue.
    pub(crate) async fn enter(&self, patience: Duration) -> Option<Permit> {
        if let Some(permit) = self.try_enter() {
            return Some(permit);
        }
        let _waiting = self.queue()?;
        timeout(patience, Arc::clone(&self.permits).acquire_owned()).await.ok()?.ok()
    }

    fn queue(&self) -> Option<Waiting<'_>> {
        let waiting = Waiting(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.max).then_some(waiting)
    }
}

/// One that waits in the queue, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_number_and_in_time() {
        let limit = Limit::new(2);
        let held = (limit.try_enter().unwrap(), limit.try_enter().unwrap());
        let (mut first, mut second) = (Box::pin(limit.enter(PATIENCE)), Box::pin(limit.enter(PATIENCE)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        assert_eq!((limit.under_way(), limit.waiting()), (2, 2));
        assert!(limit.enter(PATIENCE).now_or_never().unwrap().is_none(), "the queue is full");
        drop(held.0);
        assert!(limit.try_enter().is_none(), "the first in the queue comes first");
        let first = first.await;
        assert!(first.is_some());
        let began = Instant::now();
        assert!(second.await.is_none());
        assert_eq!(began.elapsed(), PATIENCE);
        drop((first, held.1));
        assert_eq!((limit.under_way(), limit.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stops_waiting_leaves_the_queue() {
        let limit = Limit::new(1);
        let held = limit.try_enter();
        let mut waits = Box::pin(limit.enter(PATIENCE));
        assert!(poll!(&mut waits).is_pending());
        drop(waits);
        drop(held);
        assert_eq!((limit.under_way(), limit.waiting()), (0, 0));
        assert!(limit.try_enter().is_some());
    }
}
