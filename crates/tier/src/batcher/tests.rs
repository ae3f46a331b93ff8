use std::{sync::atomic::Ordering, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::*;

const BUDGET: Duration = Duration::from_millis(50);
const LIMITS: BatchLimits =
    BatchLimits::new(BUDGET).with_direct(2).with_batch(8).with_workers(2).with_queue(100);

/// Answers each request with the request itself after `delay`, and records the batches.
struct Echo {
    delay: Duration,
    asked: Mutex<Vec<Vec<u32>>>,
}

const PANIC: u32 = 1_000;
const FAIL: u32 = 2_000;
const SHORT: u32 = 3_000;

impl BatchCall for Echo {
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

    fn bytes(&self, request: &u32) -> usize {
        *request as usize
    }
}

fn batcher(delay_ms: u64, limits: BatchLimits) -> Batcher<Echo> {
    Batcher::new(Echo { delay: Duration::from_millis(delay_ms), asked: Mutex::new(Vec::new()) }, limits)
}

fn start(batcher: &Batcher<Echo>, requests: impl IntoIterator<Item = u32>) -> Vec<Task> {
    let spawn = |request| {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.call(request).await })
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

fn batches(batcher: &Batcher<Echo>) -> Vec<usize> {
    batcher.get_ref().asked.lock().iter().map(Vec::len).collect()
}

#[tokio::test(start_paused = true)]
async fn few_calls_go_out_alone() {
    let batcher = batcher(5, LIMITS);
    assert_eq!(end(start(&batcher, 0..2)).await, [Ok(0), Ok(1)]);
    assert_eq!(batches(&batcher), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn calls_above_the_direct_limit_share_batches_and_get_their_own_replies() {
    let batcher = batcher(5, LIMITS);
    let started = Instant::now();
    let answers = end(start(&batcher, 0..26)).await;
    assert_eq!(answers, (0..26).map(Ok).collect::<Vec<_>>());
    assert_eq!(batches(&batcher), [1, 1, 8, 8, 8]);
    assert_eq!(started.elapsed(), Duration::from_millis(10), "two batches at a time");
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_a_bound_in_bytes_and_a_larger_request_is_alone() {
    let limits = BatchLimits { direct: 0, workers: 1, ..LIMITS }.with_bytes(100);
    let batcher = batcher(5, limits);
    let requests = [40, 60, 1, 500, 99, 2];
    assert_eq!(end(start(&batcher, requests)).await, requests.map(Ok));
    assert_eq!(*batcher.get_ref().asked.lock(), [vec![40, 60], vec![1], vec![500], vec![99], vec![2]]);
}

#[tokio::test(start_paused = true)]
async fn a_batcher_at_rest_goes_back_to_direct_calls() {
    let batcher = batcher(5, LIMITS);
    end(start(&batcher, 0..10)).await;
    assert_eq!(batcher.call(7).await.unwrap(), 7);
    assert_eq!(batches(&batcher), [1, 1, 8, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let batcher = batcher(5, BatchLimits { queue: 3, ..LIMITS });
    let answers = end(start(&batcher, 0..6)).await;
    assert_eq!(answers, [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4), Err(ErrorKind::Busy)]);
}

#[tokio::test(start_paused = true)]
async fn the_budget_counts_the_time_in_the_queue() {
    let batcher = batcher(40, BatchLimits { direct: 0, batch: 1, ..LIMITS });
    let started = Instant::now();
    let answers = end(start(&batcher, 0..6)).await;
    let timeout = Err(ErrorKind::Timeout);
    assert_eq!(answers, [Ok(0), Ok(1), timeout, timeout, timeout, timeout]);
    assert!(started.elapsed() <= BUDGET + Duration::from_millis(2), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_late_caller_of_a_batch_leaves_the_others_their_time() {
    let batcher = batcher(60, BatchLimits { direct: 0, batch: 2, ..LIMITS });
    // Two batches whose callers all time out keep both workers busy for 50 ms.
    let blocked = start(&batcher, 0..4);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let early = start(&batcher, 4..5);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let later = start(&batcher, 5..6);
    assert_eq!(end(blocked).await, vec![Err(ErrorKind::Timeout); 4]);
    assert_eq!(end(early).await, [Err(ErrorKind::Timeout)]);
    let started = Instant::now();
    assert_eq!(end(later).await, [Err(ErrorKind::Timeout)]);
    assert!(started.elapsed() >= Duration::from_millis(28), "{:?}", started.elapsed());
    assert_eq!(batches(&batcher), [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_keeps_the_budget() {
    let batcher = batcher(10_000, LIMITS);
    let started = Instant::now();
    assert_eq!(batcher.call(1).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(started.elapsed() <= BUDGET + Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_batch_reaches_every_caller() {
    let batcher = batcher(5, BatchLimits { direct: 0, ..LIMITS });
    let answers = end(start(&batcher, [1, FAIL, 3])).await;
    assert_eq!(answers, vec![Err(ErrorKind::Unavailable); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_missing_is_a_typed_error() {
    let batcher = batcher(5, BatchLimits { direct: 0, ..LIMITS });
    assert_eq!(end(start(&batcher, [1, SHORT])).await, [Ok(1), Err(ErrorKind::Backend)]);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_worker_leaves_nobody_waiting() {
    let batcher = batcher(5, BatchLimits { direct: 0, batch: 1, ..LIMITS });
    let answers = end(start(&batcher, vec![PANIC; 6])).await;
    assert_eq!(answers, vec![Err(ErrorKind::Backend); 6]);
    assert_eq!(batcher.call(9).await.unwrap(), 9, "the batcher works on");
}

#[tokio::test(start_paused = true)]
async fn cancelled_callers_are_not_sent_and_free_their_places() {
    let batcher = batcher(5, BatchLimits { batch: 4, ..LIMITS });
    let tasks = start(&batcher, 0..20);
    tokio::task::yield_now().await;
    tasks.iter().skip(2).for_each(tokio::task::JoinHandle::abort);
    for task in tasks {
        let _aborted = task.await;
    }
    tokio::time::sleep(BUDGET).await;
    assert_eq!(batcher.shared().unwrap().direct.load(Ordering::Relaxed), 0);
    let sent: usize = batches(&batcher).iter().sum();
    assert!(sent <= 10, "two direct calls and at most two batches, not {sent} requests");
    assert_eq!(end(start(&batcher, 0..2)).await, [Ok(0), Ok(1)]);
}

#[test]
fn a_runtime_that_ends_takes_only_its_own_calls_with_it() {
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    let (doomed, other) = (build().unwrap(), build().unwrap());
    let limits = BatchLimits { direct: 0, batch: 1, budget: Some(Duration::from_secs(60)), ..LIMITS };
    let batcher = batcher(20, limits);
    // All workers of the runtime that ends are busy, and the calls of the other one need none of them.
    let lost = doomed.block_on(async { start(&batcher, 0..100) });
    while batches(&batcher).len() < LIMITS.workers {
        std::thread::yield_now();
    }
    let left = other.block_on(async { start(&batcher, 100..105) });
    doomed.shutdown_background();
    assert_eq!(other.block_on(end(left)), [Ok(100), Ok(101), Ok(102), Ok(103), Ok(104)]);
    drop(lost);
    let outside = futures_util::future::FutureExt::now_or_never(batcher.call(1)).unwrap();
    assert_eq!(outside.unwrap_err().kind(), ErrorKind::Config);
}
