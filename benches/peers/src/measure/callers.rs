//! Turns of asynchronous work by a number of callers.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use super::{
    effort::Effort,
    rounds::{Figures, rounds},
    side::Side,
    spread::share,
};
use crate::{Error, Result, peer::Peer};

/// An operation that many callers run at once.
pub trait Work: Clone + Send + Sync + 'static {
    /// The `n`th operation.
    fn run(&self, n: usize) -> impl Future<Output = Result<()>> + Send;

    /// Waits for the work that the operations left in the background; the wait is measured too.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The turns of any [`Work`]. Only a whole turn is a call through this object.
pub trait Turns: Send + Sync {
    /// Thousands of operations a second of so many callers, for a duration.
    fn throughput(&self, callers: usize, start: usize, length: Duration) -> BoxFuture<'_, Result<f64>>;

    /// Thousands of operations a second of so many callers, of whom each runs so many operations.
    fn burst(&self, callers: usize, start: usize, each: usize) -> BoxFuture<'_, Result<f64>>;

    /// The median time of so many operations of one caller, in microseconds.
    fn median(&self, start: usize, count: usize) -> BoxFuture<'_, Result<f64>>;
}

/// The callers of a side.
pub type Callers = Side<dyn Turns>;

/// A side that does this work.
pub fn callers<W: Work>(peer: &'static Peer, usage: impl Into<String>, work: Result<W>) -> Callers {
    Side::new(peer, usage, work.map(|work| Box::new(work) as Box<dyn Turns>))
}

/// Thousands of operations a second.
pub async fn throughputs(sides: &mut [Callers], callers: usize, effort: Effort) -> Vec<Figures> {
    rounds(sides, effort, async |turns, n| turns.throughput(callers, n * STRIDE, effort.turn()).await).await
}

/// Thousands of operations a second, in turns of so many operations for each caller.
pub async fn bursts(sides: &mut [Callers], callers: usize, each: usize, effort: Effort) -> Vec<Figures> {
    rounds(sides, effort, async |turns, n| turns.burst(callers, n * STRIDE, each).await).await
}

/// Median times of one caller's operations, in microseconds.
pub async fn medians(sides: &mut [Callers], count: usize, effort: Effort) -> Vec<Figures> {
    rounds(sides, effort, async |turns, n| turns.median(n * STRIDE, count).await).await
}

/// The distance of the numbers of successive turns.
const STRIDE: usize = 1_000_003;

/// When a turn of many callers ends.
#[derive(Clone, Copy)]
enum End {
    /// After this time.
    After(Duration),
    /// Once each caller has done so many operations.
    Done(usize),
}

impl<W: Work> Turns for W {
    fn throughput(&self, callers: usize, start: usize, length: Duration) -> BoxFuture<'_, Result<f64>> {
        Box::pin(turn(self, callers, start, End::After(length)))
    }

    fn burst(&self, callers: usize, start: usize, each: usize) -> BoxFuture<'_, Result<f64>> {
        Box::pin(turn(self, callers, start, End::Done(each)))
    }

    fn median(&self, start: usize, count: usize) -> BoxFuture<'_, Result<f64>> {
        Box::pin(async move {
            let work = self.clone();
            // On a worker of the runtime, as in applications; the thread of `main` is slower.
            let times = tokio::spawn(async move { times(&work, start, count).await });
            let mut times = times.await??;
            self.settle().await;
            times.sort_by(f64::total_cmp);
            Ok(share(&times, 500))
        })
    }
}

/// Lets callers run operations until the end of a turn.
async fn turn<W: Work>(work: &W, callers: usize, start: usize, end: End) -> Result<f64> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let work = work.clone();
        tasks.spawn(async move {
            let (first, mut done) = (start + caller * 9_973, 0usize);
            loop {
                match end {
                    End::After(length) if began.elapsed() >= length => return Ok::<_, Error>(done),
                    End::Done(each) if done >= each => return Ok(done),
                    End::After(_) | End::Done(_) => {}
                }
                work.run(first + done).await?;
                done += 1;
            }
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    work.settle().await;
    Ok(done as f64 / began.elapsed().as_secs_f64() / 1e3)
}

async fn times<W: Work>(work: &W, start: usize, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for n in start..start + count {
        let began = Instant::now();
        work.run(n).await?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}
