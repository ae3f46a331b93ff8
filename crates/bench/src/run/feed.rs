//! Requests on their way from the workload to the callers. A thread reads ahead, up to a bound.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    failure::{Failure, Result},
    workload::{Request, Requests},
};

/// How many requests are read ahead at most: 16 MB.
const MAX_AHEAD: usize = 1 << 20;

/// Callers take requests from it, some at a time.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the reader where there is place again, and those who wait until it has read ahead.
    changed: Condvar,
    /// How many requests a caller takes at a time.
    batch: usize,
    /// How often a caller found nothing, although the workload goes on.
    starved: AtomicU64,
    is_dropped: AtomicBool,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Box<[Request]>>,
    has_ended: bool,
    failure: Option<Failure>,
}

impl Feed {
    /// Begins to read the workload. Few callers take many requests at a time, and many callers one each, so
    /// that requests keep nearly the order that they have in the workload.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start(requests: Requests, callers: usize) -> Result<Self> {
        let batch = (64 / callers.max(1)).max(1);
        let shared = Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            batch,
            starved: AtomicU64::new(0),
            is_dropped: AtomicBool::new(false),
        };
        let feed = Self(Arc::new(shared));
        let reader = feed.clone();
        let read = move || reader.read(requests);
        std::thread::Builder::new().name("workload".to_owned()).spawn(read).map_err(Failure::new)?;
        feed.wait_until_ahead();
        Ok(feed)
    }

    fn read(&self, mut requests: Requests) {
        let mut batch = Vec::with_capacity(self.0.batch);
        let failure = loop {
            match requests.next() {
                Ok(Some(request)) => batch.push(request),
                Ok(None) => break None,
                Err(failure) => break Some(failure),
            }
            if batch.len() == self.0.batch && !self.give(std::mem::take(&mut batch)) {
                return;
            }
        };
        if !batch.is_empty() {
            self.give(batch);
        }
        let mut queue = self.0.queue.lock();
        (queue.failure, queue.has_ended) = (failure, true);
        self.0.changed.notify_all();
    }

    /// Hands a batch over. The result is `false` if nobody takes requests any more.
    fn give(&self, batch: Vec<Request>) -> bool {
        let mut queue = self.0.queue.lock();
        while queue.batches.len() * self.0.batch >= MAX_AHEAD && !self.is_dropped() {
            self.0.changed.notify_all();
            self.0.changed.wait_for(&mut queue, Duration::from_millis(50));
        }
        queue.batches.push_back(batch.into());
        !self.is_dropped()
    }

    fn is_dropped(&self) -> bool {
        self.0.is_dropped.load(Ordering::Acquire)
    }

    /// Waits until the queue is full or the workload was read to its end, so that reading takes no time from
    /// what is measured.
    fn wait_until_ahead(&self) {
        let mut queue = self.0.queue.lock();
        while queue.batches.len() * self.0.batch < MAX_AHEAD && !queue.has_ended {
            self.0.changed.wait_for(&mut queue, Duration::from_millis(50));
        }
    }

    /// The next requests, or `None` at the end.
    pub(crate) async fn next(&self) -> Option<Box<[Request]>> {
        loop {
            {
                let mut queue = self.0.queue.lock();
                if let Some(batch) = queue.batches.pop_front() {
                    return Some(batch);
                }
                if queue.has_ended {
                    return None;
                }
                self.0.changed.notify_all();
            }
            self.0.starved.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes the first `count` requests out, for a warm-up.
    pub(crate) async fn take(&self, count: u64) -> Vec<Box<[Request]>> {
        let (mut taken, mut batches) = (0, Vec::new());
        while taken < count
            && let Some(batch) = self.next().await
        {
            taken += batch.len() as u64;
            batches.push(batch);
        }
        batches
    }

    /// Ends the reader.
    ///
    /// # Errors
    /// What stopped the workload before its end.
    pub(crate) fn end(&self) -> Result<()> {
        self.0.is_dropped.store(true, Ordering::Release);
        self.0.changed.notify_all();
        self.0.queue.lock().failure.take().map_or(Ok(()), Err)
    }

    /// How often a caller had to wait for the reader.
    pub(crate) fn starved(&self) -> u64 {
        self.0.starved.load(Ordering::Relaxed)
    }
}
