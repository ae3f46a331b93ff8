//! Turns of asynchronous work by a number of callers.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{row::Round, threads::ORDERS};
use crate::{Effort, Error, Result};

/// An operation that many callers run at once.
pub trait Work: Clone + Send + Sync + 'static {
    /// The `n`th operation.
    fn run(&self, n: usize) -> impl Future<Output = Result<()>> + Send;

    /// Waits for the work that the operations left in the background; the wait is measured too.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// How long one side's turn takes with many callers.
const TURN: Duration = Duration::from_millis(40);
const ROUNDS: usize = 60;

/// With one caller: how many operations of each side a round has. The sides alternate operation by
/// operation.
const TURNS_ALONE: usize = 60;
const ROUNDS_ALONE: usize = 400;

/// Microseconds that an operation takes, in each round. With one caller the sides alternate operation
/// by operation.
///
/// The sides are ours, raw, and the control: the raw client with another connection.
///
/// # Errors
/// The error of an operation.
pub async fn times<A: Work, B: Work>(
    sides: (&A, &B, &B),
    callers: usize,
    effort: Effort,
) -> Result<Vec<Round>> {
    if callers > 1 {
        return times_in_turns(sides, callers, effort).await;
    }
    let (ours, raw, control) = (sides.0.clone(), sides.1.clone(), sides.2.clone());
    let rounds = effort.rounds(ROUNDS_ALONE);
    // On a worker of the runtime, as in applications; the thread of `main` or of a test is slower.
    tokio::spawn(async move { alone((&ours, &raw, &control), rounds).await }).await?
}

/// [`times`] in turns of many operations, even with one caller.
///
/// For clients that leave work in the background after an operation: each side then bears its own.
///
/// # Errors
/// The error of an operation.
pub async fn times_in_turns<A: Work, B: Work>(
    sides: (&A, &B, &B),
    callers: usize,
    effort: Effort,
) -> Result<Vec<Round>> {
    let (ours, raw, control) = (sides.0.clone(), sides.1.clone(), sides.2.clone());
    let rounds = effort.rounds(ROUNDS);
    tokio::spawn(async move { together((&ours, &raw, &control), callers, rounds).await }).await?
}

/// Thousands of operations per second, in each round.
///
/// # Errors
/// As [`times`].
pub async fn throughputs<A: Work, B: Work>(
    sides: (&A, &B, &B),
    callers: usize,
    effort: Effort,
) -> Result<Vec<Round>> {
    let per_second = |micros: f64| callers as f64 * 1000.0 / micros;
    let times = times(sides, callers, effort).await?;
    let round = |round: Round| Round {
        ours: per_second(round.ours),
        raw: per_second(round.raw),
        control: per_second(round.control),
    };
    Ok(times.into_iter().map(round).collect())
}

async fn alone<A: Work, B: Work>((ours, raw, control): (&A, &B, &B), rounds: usize) -> Result<Vec<Round>> {
    let mut measured = Vec::with_capacity(rounds);
    let mut n = 0;
    for _ in 0..rounds {
        let mut spent = [Duration::ZERO; 3];
        for turn in 0..TURNS_ALONE {
            for side in ORDERS[turn % ORDERS.len()] {
                let began = Instant::now();
                match side {
                    0 => ours.run(n).await?,
                    1 => raw.run(n).await?,
                    _ => control.run(n).await?,
                }
                spent[side] += began.elapsed();
                n += 1;
            }
        }
        let [ours, raw, control] = spent.map(|spent| spent.as_secs_f64() * 1e6 / TURNS_ALONE as f64);
        measured.push(Round { ours, raw, control });
    }
    Ok(measured)
}

async fn together<A: Work, B: Work>(
    (ours, raw, control): (&A, &B, &B),
    callers: usize,
    rounds: usize,
) -> Result<Vec<Round>> {
    let mut measured = Vec::with_capacity(rounds);
    turn(ours, callers, 0, TURN).await?;
    turn(raw, callers, 0, TURN).await?;
    turn(control, callers, 0, TURN).await?;
    for round in 0..rounds {
        let mut spent = [0.0; 3];
        for side in ORDERS[round % ORDERS.len()] {
            let start = (3 * round + side) * 1_000_003;
            spent[side] = match side {
                0 => turn(ours, callers, start, TURN).await?,
                1 => turn(raw, callers, start, TURN).await?,
                _ => turn(control, callers, start, TURN).await?,
            };
        }
        let [ours, raw, control] = spent;
        measured.push(Round { ours, raw, control });
    }
    Ok(measured)
}

/// Runs one side's turn. Returns the microseconds that an operation takes, on average over the callers.
pub(crate) async fn turn<W: Work>(work: &W, callers: usize, start: usize, length: Duration) -> Result<f64> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let work = work.clone();
        tasks.spawn(async move {
            let mut n = start + caller * 9_973;
            let mut done = 0usize;
            while began.elapsed() < length {
                work.run(n).await?;
                n += 1;
                done += 1;
            }
            Ok::<_, Error>(done)
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    work.settle().await;
    Ok(began.elapsed().as_secs_f64() * 1e6 * callers as f64 / done as f64)
}
