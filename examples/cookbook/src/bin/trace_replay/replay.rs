//! The application, which is the same code on every stack.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use terrace::{Cache, Result, Stats};

/// The value that the application reads: a block of a database.
#[derive(PartialEq, Serialize, Deserialize)]
pub(crate) struct Block {
    number: u64,
    content: Vec<u8>,
}

impl Block {
    fn read(number: u64) -> Self {
        Self { number, content: vec![number as u8; 160] }
    }
}

/// The result of a replay.
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    pub(crate) elapsed: Duration,
    /// The time of each request in nanoseconds, sorted.
    pub(crate) nanos: Vec<u32>,
}

/// The blocks that the store has at the start. The loader makes the remaining ones, about one in a
/// hundred.
pub(crate) fn records(trace: &[u64]) -> Vec<u64> {
    let mut seen = HashSet::new();
    trace.iter().copied().filter(|number| seen.insert(*number) && !number.is_multiple_of(100)).collect()
}

/// Puts the records into the store, many at once.
pub(crate) async fn put_records(store: &Cache<u64, Block>, records: &[u64], bar: &ProgressBar) -> Result<()> {
    for page in records.chunks(1_000) {
        for put in store.put_many(page.iter().map(|number| (*number, Block::read(*number)))).await {
            put?;
        }
        bar.inc(page.len() as u64);
    }
    Ok(())
}

/// Reads every block of the trace, one after the other, since the order of the reads decides what a
/// near tier evicts.
pub(crate) async fn replay(cache: &Cache<u64, Block>, trace: &[u64], bar: &ProgressBar) -> Result<Outcome> {
    let mut nanos = Vec::with_capacity(trace.len());
    let began = Instant::now();
    for (at, number) in trace.iter().copied().enumerate() {
        let request_began = Instant::now();
        let load = || async move { Ok::<_, Infallible>(Block::read(number)) };
        let block = cache.get_or_load(&number, load).await?;
        nanos.push(u32::try_from(request_began.elapsed().as_nanos()).unwrap_or(u32::MAX));
        assert!(*block == Block::read(number), "the cache returned another block than the requested one");
        if at % 1_000 == 999 {
            bar.inc(1_000);
        }
    }
    let elapsed = began.elapsed();
    bar.set_position(trace.len() as u64);
    nanos.sort_unstable();
    cache.settled().await;
    Ok(Outcome { stats: cache.stats(), elapsed, nanos })
}

/// The hits of the near tier's engine on the same requests, without the cache around it.
pub(crate) fn engine_alone(trace: &[u64], entries: u64) -> u64 {
    let engine = moka::sync::Cache::new(entries);
    let mut hits = 0;
    for number in trace {
        match engine.get(number) {
            Some(()) => hits += 1,
            None => engine.insert(*number, ()),
        }
    }
    hits
}
