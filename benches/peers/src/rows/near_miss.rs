//! `near-miss`: loads of new keys in caches in the process alone.

use crate::{
    Result,
    data::KEYS,
    measure::{
        callers::{callers, throughputs},
        effort::Effort,
    },
    peers::{moka, quick_cache, terrace},
    report::table::Table,
    work::near::NearMisses,
};

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    let mut sides = vec![
        callers(&moka::PEER, "get_with", Ok(NearMisses(moka::FutureCache::new(KEYS)))),
        callers(&quick_cache::PEER, "get_or_insert_async", Ok(NearMisses(quick_cache::Local::new(KEYS)))),
        callers(&terrace::PEER, "get_or_load, Memory", terrace::memory(KEYS).map(NearMisses)),
        callers(&terrace::PEER, "get_or_load, Quick", terrace::quick(KEYS).map(NearMisses)).beside(1),
    ];
    let title = "Reads of keys that were never read, whose loader answers at once, in a cache of 10,000 entries \
                 in the process. Thousands a second, more is better.";
    let mut table = Table::new("near-miss", title, &sides);
    for count in [1, 2] {
        let figures = throughputs(&mut sides, count, effort).await;
        table.paired(format!("{count} at once, k/s"), &sides, &figures);
    }
    Ok(table)
}
