//! The application: the same code, whatever the stack.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use terrace::{Cache, Result, Stats};

/// What the application reads: a block of a database.
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

/// What a replay showed.
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    pub(crate) elapsed: Duration,
    /// Each request's time in nanoseconds, sorted.
    pub(crate) nanos: Vec<u32>,
}

/// The blocks that the store has at the start; the loader makes the others, one in a hundred.
pub(crate) fn records(trace: &[u64]) -> Vec<u64> {
    let mut seen = HashSet::new();
    trace.iter().copied().filter(|number| seen.insert(*number) && !number.is_multiple_of(100)).collect()
}

/// Puts them into the store, many at once.
pub(crate) async fn put_records(store: &Cache<u64, Block>, records: &[u64], bar: &ProgressBar) -> Result<()> {
    for page in records.chunks(1_000) {
        for put in store.put_many(page.iter().map(|number| (*number, Block::read(*number)))).await {
            put?;
        }
        bar.inc(page.len() as u64);
    }
    Ok(())
}

/// Reads every block of the trace, one after the other: its order decides what a near tier evicts.
pub(crate) async fn replay(cache: &Cache<u64, Block>, trace: &[u64], bar: &ProgressBar) -> Result<Outcome> {
    let mut nanos = Vec::with_capacity(trace.len());
    let began = Instant::now();
    for (at, number) in trace.iter().copied().enumerate() {
        let asked = Instant::now();
        let load = || async move { Ok::<_, Infallible>(Block::read(number)) };
        let block = cache.get_or_load(&number, load).await?;
        nanos.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
        assert!(*block == Block::read(number), "another block than the one asked for");
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

/// Hits of the near tier's engine on the same requests, with nothing around it.
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
