//! `outage`: a cold read with Redis killed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use terrace_testbed::Redis;
use tokio::time::timeout;

use super::place;
use crate::{
    Result,
    data::new_key,
    measure::{effort::Effort, side::Side},
    peers::READ_THROUGHS,
    report::table::{Cell, Table},
    work::read_through::{Candidate, Loads},
};

/// How long a read is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures the row.
pub(super) async fn run(_effort: Effort) -> Result<Table> {
    // All at once: they wait for a server that is not there.
    let measured = join_all(READ_THROUGHS.iter().map(measure)).await;
    let (sides, cells): (Vec<Side<Candidate>>, Vec<Vec<Cell>>) = measured.into_iter().unzip();
    let title = "Reads of new keys whose loader answers at once, after Redis was killed: how long a read takes, and what it \
                 gives.";
    let mut table = Table::new("outage", title, &sides);
    for (column, at) in [("first read", 0), ("second read", 1)] {
        table.cells(column, cells.iter().map(|cells| cells[at].clone()).collect());
    }
    Ok(table)
}

async fn measure(candidate: &Candidate) -> (Side<Candidate>, Vec<Cell>) {
    let cells = match reads(candidate).await {
        Ok(texts) => texts.map(Cell::Plain).to_vec(),
        Err(error) => vec![Cell::Absent(error.to_string()); 2],
    };
    (Side::new(candidate.peer, candidate.usage, Ok(Box::new(*candidate))), cells)
}

async fn reads(candidate: &Candidate) -> Result<[String; 2]> {
    let server = Redis::start().await?;
    let cache = (candidate.connect)(place(&server)).await?;
    cache.read(new_key()).await?;
    server.kill9()?;
    Ok([read(&*cache).await, read(&*cache).await])
}

async fn read(cache: &dyn Loads) -> String {
    let began = Instant::now();
    let what = match timeout(PATIENCE, cache.read(new_key())).await {
        Ok(Ok(_)) => "the value",
        Ok(Err(_)) => "an error",
        Err(_elapsed) => return format!("nothing within {} s", PATIENCE.as_secs()),
    };
    format!("{what} after {:.1} ms", began.elapsed().as_secs_f64() * 1e3)
}
