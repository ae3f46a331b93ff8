//! `stale`: reads after an invalidation during a load.

use terrace_testbed::Redis;

use super::place;
use crate::{
    Result,
    data::new_key,
    measure::{effort::Effort, side::Side},
    peers::crowds,
    report::table::{Cell, Table},
    work::read_through::Loads,
};

const TRIES: usize = 5;

/// Measures the row.
pub(super) async fn run(_effort: Effort) -> Result<Table> {
    let server = Redis::start().await?;
    let mut sides: Vec<Side<dyn Loads>> = Vec::new();
    let mut cells = Vec::new();
    for candidate in crowds() {
        let side = Side::new(candidate.peer, candidate.usage, (candidate.connect)(place(&server)).await);
        cells.push(Cell::plain(tries(&side).await));
        sides.push(side);
    }
    let title = "A loader has read the origin, the origin changes and the key is invalidated, the load ends, and the key is \
                 read again: how often that read gives the value from before the change.";
    let mut table = Table::new("stale", title, &sides);
    table.servers.push(server.version().await?);
    table.cells("old values", cells);
    Ok(table)
}

async fn tries(side: &Side<dyn Loads>) -> Result<String, String> {
    let cache = side.state.as_ref().map_err(String::clone)?;
    let mut stale = 0;
    for _ in 0..TRIES {
        if cache.is_stale(new_key()).await.map_err(|error| error.to_string())? {
            stale += 1;
        }
    }
    Ok(format!("{stale} of {TRIES}"))
}
