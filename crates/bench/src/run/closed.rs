//! The closed loop: each caller sends its next request when it has the answer to the last one.

use std::time::{Duration, Instant};

use terrace::near::Near;

use super::{
    control::{Control, Deadline},
    feed::Feed,
    meter::Meter,
    payload::Payload,
    serve::{Origin, serve},
    stack::StackCache,
};
use crate::failure::{Failure, Result};

/// How a closed loop runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    /// The number of callers.
    pub(crate) callers: usize,
    /// Every how many requests the latency is measured.
    pub(crate) latency_every: u32,
    /// The longest time.
    pub(crate) time: Option<Duration>,
    /// The origin.
    pub(crate) origin: Origin,
}

/// How many requests a caller sends at most before it lets other tasks run.
const YIELD_EVERY: u32 = 1_024;

/// Sends all requests of the feed, or as many as the time permits.
pub(crate) async fn drive<N: Near<u64, Payload>>(
    cache: &StackCache<N>,
    feed: &Feed,
    closed: Closed,
    control: &Control,
) -> Result<Meter> {
    let deadline = Deadline::after(closed.time);
    let callers: Vec<_> = (0..closed.callers)
        .map(|_| {
            let (cache, feed, control) = (cache.clone(), feed.clone(), control.clone());
            tokio::spawn(async move { call(&cache, &feed, closed, deadline, &control).await })
        })
        .collect();
    let mut sum = Meter::default();
    for caller in callers {
        sum.add(&caller.await.map_err(Failure::new)?);
    }
    Ok(sum)
}

async fn call<N: Near<u64, Payload>>(
    cache: &StackCache<N>,
    feed: &Feed,
    closed: Closed,
    deadline: Deadline,
    control: &Control,
) -> Meter {
    let (mut meter, mut until_measured, mut since_yield) = (Meter::default(), 1, 0);
    while !deadline.is_over()
        && !control.is_interrupted()
        && let Some(batch) = feed.next().await
    {
        for request in &batch {
            until_measured -= 1;
            if until_measured > 0 {
                let answer = serve(cache, closed.origin, request).await;
                meter.count(&answer);
                continue;
            }
            until_measured = closed.latency_every;
            let began = Instant::now();
            let answer = serve(cache, closed.origin, request).await;
            let latency = began.elapsed();
            meter.count(&answer);
            meter.took(&answer, latency);
            control.took(latency);
        }
        control.answered(batch.len() as u64);
        since_yield += batch.len() as u32;
        if since_yield >= YIELD_EVERY {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
    meter
}
