//! Failovers of real servers under traffic, and how soon the cache uses the new primary.
//!
//! The clock of a run starts at the promotion: when `REPLICAOF NO ONE` has returned, when most sentinels name the
//! new primary, or when `pg_promote` has returned. For each case the table has the least, the median and the
//! greatest of:
//!
//! - `reads back`: the first read that the new primary answered;
//! - `writes back`: the first write that it acknowledged;
//! - `last old`: the last answer of the old primary to the cache.
//!
//! and the sums over all runs of:
//!
//! - `beyond`: reads older than a write that the new primary had acknowledged before the read began. No level
//!   allows one.
//! - `lost`: reads older than a write that only the old primary had acknowledged. Replication is asynchronous,
//!   so that a failover may lose such writes, and `Fenced` promises no more.
//! - `warned` and `back`: the warnings that a tier does not serve its cache, and the lines that it is back.

mod log;
mod postgres;
mod redis;
mod traffic;

use std::time::Duration;

use crate::Result;
use log::Lines;
use traffic::Measured;

/// How a primary is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Redis behind an endpoint that is led to the promoted replica; the old primary becomes its replica.
    RedisEndpoint,
    /// Redis with three sentinels; the primary is killed.
    SentinelKill,
    /// Redis with three sentinels; the primary is stopped for ten seconds and goes on.
    SentinelStop,
    /// Postgres behind an endpoint that is led to the promoted standby; the old primary refuses writes.
    PostgresEndpoint,
    /// Postgres by two hosts in the URL; the primary is killed and the standby promoted.
    PostgresHosts,
}

/// All cases.
pub const CASES: [Case; 5] = [
    Case::RedisEndpoint,
    Case::SentinelKill,
    Case::SentinelStop,
    Case::PostgresEndpoint,
    Case::PostgresHosts,
];

/// The longest time until reads and writes are back.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// The latest answer of an old primary.
const OLD_UNTIL: Duration = Duration::from_millis(1_200);

/// Runs each case this often and prints the table.
///
/// # Errors
/// A server that cannot be started or promoted; at the end, a case that missed what is promised.
pub async fn run(cases: &[Case], runs: usize) -> Result<()> {
    let lines = Lines::count()?;
    println!(
        "{:17} {:>23} {:>23} {:>23} {:>9} {:>7} {:>6} {:>7} {:>5}  (ms: least median greatest)",
        "case", "reads back", "writes back", "last old", "reads", "beyond", "lost", "warned", "back"
    );
    let mut missed = Vec::new();
    for case in cases {
        let mut measured = Vec::new();
        for _ in 0..runs {
            measured.push(match case {
                Case::RedisEndpoint => redis::endpoint().await?,
                Case::SentinelKill => redis::sentinel_kill().await?,
                Case::SentinelStop => redis::sentinel_stop().await?,
                Case::PostgresEndpoint => postgres::endpoint().await?,
                Case::PostgresHosts => postgres::hosts().await?,
            });
        }
        let (warned, back) = lines.take();
        print_row(*case, &measured, warned, back);
        if !measured.iter().all(Measured::keeps_what_is_promised) {
            missed.push(format!("{case:?}"));
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("missed by {}", missed.join(", ")).into()) }
}

fn print_row(case: Case, measured: &[Measured], warned: u64, back: u64) {
    let times = |of: fn(&Measured) -> Option<Duration>| spread(measured.iter().map(of).collect());
    let sum = |of: fn(&Measured) -> u64| measured.iter().map(of).sum::<u64>();
    println!(
        "{:17} {:>23} {:>23} {:>23} {:>9} {:>7} {:>6} {:>7} {:>5}",
        format!("{case:?}"),
        times(|run| run.reads_back),
        times(|run| run.writes_back),
        times(|run| run.last_old),
        sum(|run| run.reads),
        sum(|run| run.beyond),
        sum(|run| run.lost),
        warned,
        back,
    );
}

/// Least, median and greatest in milliseconds. A time that was never reached is the greatest.
fn spread(mut times: Vec<Option<Duration>>) -> String {
    times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
    let shown = |time: Option<&Option<Duration>>| match time {
        Some(Some(time)) => time.as_millis().to_string(),
        _ => "never".to_owned(),
    };
    format!("{} {} {}", shown(times.first()), shown(times.get(times.len() / 2)), shown(times.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_never_reached_is_the_greatest() {
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(spread(vec![ms(30), None, ms(10)]), "10 30 never");
        assert_eq!(spread(vec![]), "never never never");
    }
}
