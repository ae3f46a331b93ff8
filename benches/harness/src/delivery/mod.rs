//! How soon the near tier of another process shows a write.
//!
//! A child process writes growing values at a steady pace and reports when each write was
//! acknowledged. This process reads all keys about every millisecond. Both read the same clock.

mod reader;
mod stack;
mod writer;

use std::{
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use terrace_testbed::{shared_postgres, shared_redis, unique_name};
use tokio::process::Command;

use stack::{Address, SCENARIOS, Scenario};
pub use writer::write;

use crate::{
    Effort, Result,
    measure::latency::{Bound, Latency},
};

/// The first argument of the child; the other arguments say what it is to do.
pub const WRITER: &str = "delivery-writer";

/// How many keys there are; a task of the writer serves each.
const KEYS: u64 = 100;
/// The time from one round of reads to the next.
const PAUSE: Duration = Duration::from_millis(1);

async fn row(scenario: Scenario, effort: Effort, redis: &str, database: &str) -> Result<Latency> {
    let (redis, database) = (redis.to_owned(), database.to_owned());
    let address = Address { scenario, redis, database, namespace: unique_name("delivery") };
    let cache = address.stack().await?;
    address.prepare(&cache).await?;
    let seconds = if effort.quick { 3 } else { 20 };
    // Each key gets the same number of writes.
    let writes = scenario.per_second * seconds / KEYS * KEYS;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(WRITER)
        .args(address.arguments())
        .arg(writes.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let cache_of_reader = cache.clone();
    let seen = tokio::spawn(async move { reader::read(&cache_of_reader, writes / KEYS).await }).await??;
    let late = reader::lateness(&mut child, &seen).await?;
    cache.close().await;
    Ok(Latency::new("delivery", scenario.name, late, Bound::P99(scenario.target_ms)))
}

/// Measures the rows of this group.
///
/// # Errors
/// Errors of the servers; a read of an older value after a newer one; a write that is never read.
pub async fn rows(effort: Effort, emit: &mut dyn FnMut(Latency)) -> Result<()> {
    for scenario in SCENARIOS {
        emit(row(scenario, effort, &shared_redis().await?, &shared_postgres().await?).await?);
    }
    Ok(())
}

/// Microseconds on the clock that both processes read.
fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
