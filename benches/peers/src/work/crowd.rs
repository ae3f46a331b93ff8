//! A stampede: many callers read one key at once that nobody has, and its load is slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::task::JoinSet;

use super::{loaders::Loader, read_through::ReadThrough};
use crate::{Result, measure::spread::share};

/// What a crowd saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// How often the loader ran.
    pub loads: usize,
    /// The 99th percentile of the callers' times, in milliseconds.
    pub p99_ms: f64,
}

/// Lets so many callers read a key at once.
///
/// # Errors
/// The error of a read.
pub async fn run<R: ReadThrough>(cache: &R, n: usize, callers: usize) -> Result<Outcome> {
    let loads = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (cache, loader) = (cache.clone(), Loader::Slow(Arc::clone(&loads)));
        tasks.spawn(async move {
            let began = Instant::now();
            cache.get_or_load(n, loader).await.map(|_| began.elapsed().as_secs_f64() * 1e3)
        });
    }
    let mut times = Vec::with_capacity(callers);
    while let Some(task) = tasks.join_next().await {
        times.push(task??);
    }
    times.sort_by(f64::total_cmp);
    Ok(Outcome { loads: loads.load(Ordering::Acquire), p99_ms: share(&times, 990) })
}
