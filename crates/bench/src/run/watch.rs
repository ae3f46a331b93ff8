//! A thread that looks on while a row is measured: it moves the progress bar, notes what each tier does over
//! time, and makes the faults. It has a runtime of its own, because callers of a near tier never wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use terrace::Stats;

use super::{
    control::Control,
    fault::{Fault, make_all},
    stack::{BuiltCache, Servers},
};
use crate::failure::{Failure, Result};

/// What happened in one part of a row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// The seconds from the begin of the row to the end of the slice.
    pub(crate) seconds: f64,
    /// The requests that were answered.
    pub(crate) requests: u64,
    /// The reads that each tier answered, by its name.
    pub(crate) hits: Vec<(String, u64)>,
    /// The loads that were run.
    pub(crate) loads: u64,
    /// The slowest answer in milliseconds.
    pub(crate) slowest_ms: f64,
}

/// The most slices of a row. Where there are more, each two become one.
const MAX_SLICES: usize = 240;

/// What the thread needs.
pub(super) struct Watched {
    pub(super) cache: BuiltCache,
    pub(super) servers: Arc<Servers>,
    pub(super) faults: Vec<Fault>,
    pub(super) control: Control,
    pub(super) bar: ProgressBar,
}

/// The running thread.
pub(super) struct Watch {
    thread: std::thread::JoinHandle<Result<(Vec<Slice>, Result<usize>)>>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    /// Begins to look on.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(watched: Watched) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let watch = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::new)?;
            Ok(runtime.block_on(async {
                tokio::join!(look_on(&watched, &ends), make_all(&watched.faults, &watched.servers, &ends))
            }))
        };
        let thread =
            std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map_err(Failure::new)?;
        Ok(Self { thread, is_over })
    }

    /// Ends the thread. Returns the slices of the row, and how many faults were made.
    ///
    /// # Errors
    /// A fault that could not be made.
    pub(super) fn end(self) -> Result<(Vec<Slice>, usize)> {
        self.is_over.store(true, Ordering::Release);
        let (slices, made) = self.thread.join().map_err(|_| Failure::new("the watching thread ended"))??;
        Ok((slices, made?))
    }
}

async fn look_on(watched: &Watched, is_over: &AtomicBool) -> Vec<Slice> {
    let began = Instant::now();
    let (mut slices, mut every) = (Vec::new(), 1_u32);
    let mut last = (watched.cache.stats(), watched.control.done());
    let mut ticks = 0_u32;
    loop {
        let ends = is_over.load(Ordering::Acquire);
        if !ends {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ticks += 1;
        let done = watched.control.done();
        watched.bar.set_position(done);
        if ticks >= every || ends {
            ticks = 0;
            let stats = watched.cache.stats();
            let slowest = watched.control.take_slowest();
            slices.push(slice(began.elapsed(), &last, (&stats, done), slowest));
            last = (stats, done);
        }
        if slices.len() > MAX_SLICES {
            slices = slices.chunks(2).map(merged).collect();
            every *= 2;
        }
        if ends {
            return slices;
        }
    }
}

fn slice(at: Duration, last: &(Stats, u64), now: (&Stats, u64), slowest: Duration) -> Slice {
    let hits = now.0.tiers.iter().map(|tier| {
        let before = last.0.tier(&tier.name).map_or(0, |tier| tier.hits);
        (tier.name.clone(), tier.hits - before)
    });
    Slice {
        seconds: at.as_secs_f64(),
        requests: now.1.saturating_sub(last.1),
        hits: hits.collect(),
        loads: now.0.loads - last.0.loads,
        slowest_ms: slowest.as_secs_f64() * 1e3,
    }
}

fn merged(pair: &[Slice]) -> Slice {
    let [first, second] = pair else { return pair[0].clone() };
    let hits = first.hits.iter().zip(&second.hits).map(|((name, a), (_, b))| (name.clone(), a + b));
    Slice {
        seconds: second.seconds,
        requests: first.requests + second.requests,
        hits: hits.collect(),
        loads: first.loads + second.loads,
        slowest_ms: first.slowest_ms.max(second.slowest_ms),
    }
}
