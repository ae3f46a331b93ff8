//! `three-tier`: reads that miss near and Redis, and find a row in Postgres.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use terrace_testbed::{Postgres, Redis};
use tokio::time::{Duration, sleep};

use super::place;
use crate::{
    Result,
    measure::{
        callers::{Callers, Work, bursts, callers, medians},
        effort::Effort,
        side::Side,
    },
    peers::{READ_THROUGHS, sqlx, terrace},
    report::table::Table,
    work::{loaders::Loader, remote::Remote},
};

/// How many reads of one caller a turn has.
const ALONE: usize = 60;
/// How many callers the other column has, and how many reads each does in a turn.
const CALLERS: usize = 64;
const EACH: usize = 16;

/// Reads of records, each of them once, so that only the store has it.
#[derive(Clone)]
struct Records<R> {
    cache: R,
    next: Arc<AtomicUsize>,
}

impl<R: Remote> Work for Records<R> {
    async fn run(&self, _n: usize) -> Result<()> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if self.cache.get(n).await? == n as u64 { Ok(()) } else { Err("the record is another one".into()) }
    }
}

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    let (redis, postgres) = (Redis::start().await?, Postgres::start().await?);
    let url = postgres.create_database().await?;
    let rows = sqlx::pool(&url).await?;
    sqlx::make_table(&rows).await?;
    let mut sides: Vec<Callers> = Vec::new();
    for candidate in READ_THROUGHS {
        let loader = Loader::Select(sqlx::pool(&url).await?);
        let turns = (candidate.connect)(place(&redis)).await.map(|cache| cache.misses(loader));
        let usage = format!("{}, a loader with SELECT", candidate.usage);
        sides.push(Side::new(candidate.peer, usage, turns));
    }
    sides.push(callers(&terrace::PEER, "Memory + Redis + a store", records(&redis, &url, effort).await));
    let title = "Reads of keys that neither a near tier of 10,000 entries nor Redis has, and whose row is in Postgres; \
                 it is kept in Redis and near. Eight connections to Postgres for each side. Of one caller the median \
                 in microseconds, less is better; of 64 callers thousands a second, more is better.";
    let mut table = Table::new("three-tier", title, &sides);
    table.servers.extend([redis.version().await?, postgres.version().await?]);
    let figures = medians(&mut sides, ALONE, effort).await;
    table.paired("1 caller, us", &sides, &figures);
    let figures = bursts(&mut sides, CALLERS, EACH, effort).await;
    table.paired("64 callers, k/s", &sides, &figures);
    Ok(table)
}

/// A cache with a store that has enough records for all turns, and copies of none.
async fn records(redis: &Redis, url: &str, effort: Effort) -> Result<Records<terrace::Layered>> {
    let place = place(redis);
    let count = (effort.rounds + 1) * (ALONE + CALLERS * EACH);
    terrace::put_records(sqlx::pool(url).await?, &place.namespace, count).await?;
    let cache = terrace::three_tiers(&place, sqlx::pool(url).await?).await?;
    // The relay carries what the puts above left in the outbox.
    sleep(Duration::from_secs(1)).await;
    Ok(Records { cache, next: Arc::default() })
}
