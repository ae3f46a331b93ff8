//! `near-miss`: loads of new keys in caches in the process alone.

use super::absent;
use crate::{
    Result,
    data::KEYS,
    measure::{
        callers::{callers, throughputs},
        effort::Effort,
    },
    peers::{
        cached, cachet, foyer, hitbox, moka, multi_tier_cache, oxcache, quick_cache, terrace, tiercache,
    },
    report::table::Table,
    work::near::NearMisses,
};

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    let mut sides = vec![
        callers(&moka::PEER, "get_with", Ok(NearMisses(moka::FutureCache::new(KEYS)))),
        callers(&quick_cache::PEER, "get_or_insert_async", Ok(NearMisses(quick_cache::Local::new(KEYS)))),
        callers(&foyer::PEER, "get_or_fetch", Ok(NearMisses(foyer::Local::new(KEYS)))),
        callers(
            &cached::PEER,
            "get_or_set_with, which takes no future",
            Ok(NearMisses(cached::Local::new(KEYS))),
        ),
        callers(&cachet::PEER, "get_or_insert", Ok(NearMisses(cachet::local(KEYS, false)))),
        callers(&cachet::PEER, "get_or_insert, protected", Ok(NearMisses(cachet::local(KEYS, true)))),
        callers(
            &multi_tier_cache::PEER,
            "get_or_compute_typed, moka, JSON",
            multi_tier_cache::local(KEYS).await.map(NearMisses),
        ),
        absent(
            &hitbox::PEER,
            "#[cached], MokaBackend",
            "its `#[cached]` function is over both backends here",
        ),
        absent(&oxcache::PEER, "get_or", oxcache::REASON),
        callers(&tiercache::PEER, "get_or_compute, Lru", Ok(NearMisses(tiercache::Local::new(KEYS)))),
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
