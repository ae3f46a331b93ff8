//! The open loop: requests come at their times, whether or not earlier ones were answered.
//!
//! A closed loop hides a pause of a server: its callers wait, and the requests that would have come meanwhile
//! are never sent ('coordinated omission'). Here each latency counts from the time at which the request was to
//! come, also where the tool itself was late. Source: G. Tene, How not to measure latency, 2013.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use terrace::near::Near;
use tokio::sync::Semaphore;

use super::{
    control::{Control, Deadline},
    feed::Feed,
    latency::Latencies,
    meter::Meter,
    payload::Payload,
    serve::{Origin, serve},
    stack::StackCache,
};
use crate::{
    failure::{Failure, Result},
    workload::Request,
};

/// How an open loop runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// The mean number of requests in a second. The gaps are exponential, as between independent users.
    pub(super) per_second: f64,
    /// How many requests may be under way. Beyond it requests wait, and their latency goes on.
    pub(super) in_flight: usize,
    /// The longest time.
    pub(super) time: Option<Duration>,
    /// The origin.
    pub(super) origin: Origin,
    /// The seed of the gaps.
    pub(super) seed: u64,
}

/// The counts are spread over so many meters.
const METERS: usize = 16;

/// What an open loop found.
pub(super) struct OpenOutcome {
    /// The counts.
    pub(super) meter: Meter,
    /// How late requests were sent.
    pub(super) lateness: Latencies,
}

struct Shared<N> {
    cache: StackCache<N>,
    origin: Origin,
    control: Control,
    meters: [Mutex<Meter>; METERS],
}

/// Sends the requests of the feed at their times.
pub(super) async fn drive<N: Near<u64, Payload>>(
    cache: &StackCache<N>,
    feed: &Feed,
    open: Open,
    control: &Control,
) -> Result<OpenOutcome> {
    let shared = Arc::new(Shared {
        cache: cache.clone(),
        origin: open.origin,
        control: control.clone(),
        meters: Default::default(),
    });
    let under_way = Arc::new(Semaphore::new(open.in_flight));
    let lateness = {
        let (shared, under_way, feed) = (Arc::clone(&shared), Arc::clone(&under_way), feed.clone());
        let handle = tokio::runtime::Handle::current();
        // A thread keeps the times: timers of tokio are exact to a millisecond only.
        tokio::task::spawn_blocking(move || pace(&shared, &under_way, &feed, open, &handle))
            .await
            .map_err(Failure::new)?
    };
    // All permits are back when the last request was answered.
    let permits = u32::try_from(open.in_flight).unwrap_or(u32::MAX);
    drop(under_way.acquire_many(permits).await.map_err(Failure::new)?);
    let mut meter = Meter::default();
    shared.meters.iter().for_each(|part| meter.add(&part.lock()));
    Ok(OpenOutcome { meter, lateness })
}

fn pace<N: Near<u64, Payload>>(
    shared: &Arc<Shared<N>>,
    under_way: &Arc<Semaphore>,
    feed: &Feed,
    open: Open,
    handle: &tokio::runtime::Handle,
) -> Latencies {
    let mut random = fastrand::Rng::with_seed(open.seed);
    let (deadline, mut lateness) = (Deadline::after(open.time), Latencies::default());
    let began = Instant::now();
    let (mut at, mut sent) = (0.0, 0);
    while let Some(batch) = handle.block_on(feed.next()) {
        for request in &batch {
            if deadline.is_over() || shared.control.is_interrupted() {
                return lateness;
            }
            at -= (1.0 - random.f64()).ln() / open.per_second;
            let intended = began + Duration::from_secs_f64(at);
            if let Some(early) = intended.checked_duration_since(Instant::now()) {
                std::thread::sleep(early);
            }
            let Ok(permit) = handle.block_on(Arc::clone(under_way).acquire_owned()) else { return lateness };
            lateness.record(intended.elapsed());
            let (shared, request, meter) = (Arc::clone(shared), *request, sent % METERS);
            sent += 1;
            handle.spawn(async move {
                answer(&shared, &request, intended, meter).await;
                drop(permit);
            });
        }
    }
    lateness
}

async fn answer<N: Near<u64, Payload>>(
    shared: &Shared<N>,
    request: &Request,
    intended: Instant,
    meter: usize,
) {
    let answer = serve(&shared.cache, shared.origin, request).await;
    let latency = intended.elapsed();
    shared.control.took(latency);
    shared.control.answered(1);
    let mut meter = shared.meters[meter].lock();
    meter.count(&answer);
    meter.took(&answer, latency);
}
