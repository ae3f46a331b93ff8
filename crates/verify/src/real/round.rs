//! One round: servers, workers, faults, a time without faults, and a recording of all of it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use terrace::BoxError;
use terrace_testbed::Postgres;
use tokio::time::sleep;

use super::{
    audit,
    plan::{ASKED, Fault, Plan, Strike},
    record::{Line, Recording, now},
    servers::Servers,
    workers::{Lines, PATIENCE, Workers},
};

/// How long the servers have to recover before every key is read once more: pending invalidations are
/// repaired about every second, and a log that was lost is found again.
const PEACE: Duration = Duration::from_millis(1_300);

/// A round with fewer reads proves nothing.
pub(super) const FEWEST_READS: usize = 1_000;

/// Carries out a plan.
pub(crate) async fn run(plan: &Plan, postgres: &Postgres) -> Result<Recording, BoxError> {
    let servers = Servers::start(plan, postgres).await?;
    audit::prepare(servers.database(), plan).await?;
    let (lines, ahead) = (Lines::default(), audit::ahead());
    let mut workers = Workers::start(plan, servers.addresses(), lines.clone())?;
    let end = Instant::now() + Duration::from_millis(plan.length);
    let [of_workers, of_redis, of_postgres] = &plan.lanes;
    let struck = tokio::join!(
        strike_workers(of_workers, &mut workers, end, &lines),
        strike_servers((of_redis, ASKED[1]), &servers, end, &lines),
        strike_servers((of_postgres, ASKED[2]), &servers, end, &lines),
    );
    struck.0.and(struck.1).and(struck.2)?;
    sleep(end.saturating_duration_since(Instant::now())).await;
    // A busy machine gets more time for it.
    let late = Instant::now() + PATIENCE;
    while lines.reads() < FEWEST_READS && Instant::now() < late {
        sleep(Duration::from_millis(50)).await;
    }
    workers.quiet();
    sleep(PEACE).await;
    workers.finish()?;
    let truth = audit::tell(servers.database(), plan, ahead.max(audit::ahead()) + SLACK).await?;
    let mut lines = lines.take();
    lines.extend(truth);
    Ok(Recording { plan: plan.clone(), lines })
}

/// How far the clocks drifted from each other within a round, in nanoseconds.
const SLACK: u64 = 2_000_000;

async fn strike_workers(
    strikes: &[Strike],
    workers: &mut Workers,
    end: Instant,
    lines: &Lines,
) -> Result<(), BoxError> {
    for (number, strike) in strikes.iter().enumerate() {
        let hold = Duration::from_millis(strike.hold);
        if !waited(strike, number < ASKED[0], end).await {
            break;
        }
        let (from, slot) = (now(), (number / 2 + strike.hold as usize) % workers.len());
        match strike.fault {
            Fault::WorkerKilled => {
                workers.kill(slot);
                sleep(hold).await;
                workers.replace(slot)?;
            }
            _ => {
                workers.signal(slot, Signal::STOP);
                sleep(hold).await;
                workers.signal(slot, Signal::CONT);
            }
        }
        lines.push(Line::Struck { fault: strike.fault, from, to: now() });
    }
    Ok(())
}

async fn strike_servers(
    (strikes, asked): (&[Strike], usize),
    servers: &Servers<'_>,
    end: Instant,
    lines: &Lines,
) -> Result<(), BoxError> {
    for (number, strike) in strikes.iter().enumerate() {
        if !waited(strike, number < asked, end).await {
            break;
        }
        let from = now();
        servers.strike(strike.fault, Duration::from_millis(strike.hold), lines).await?;
        lines.push(Line::Struck { fault: strike.fault, from, to: now() });
    }
    Ok(())
}

/// Waits for the time of a fault; false where the round need not have it and is over by then.
async fn waited(strike: &Strike, asked: bool, end: Instant) -> bool {
    let (after, hold) = (Duration::from_millis(strike.after), Duration::from_millis(strike.hold));
    if !asked && Instant::now() + after + hold > end {
        return false;
    }
    sleep(after).await;
    true
}
