//! `batch`: a hundred keys in one call.

use terrace_testbed::Redis;

use super::{absent, place};
use crate::{
    Result,
    measure::{
        callers::{Callers, callers, medians},
        effort::Effort,
    },
    peer::Peer,
    peers::{cached, cachet, fred, hitbox, multi_tier_cache, oxcache, redis, terrace, tiercache},
    report::table::Table,
    work::{
        batch::{Batch, BatchOp, BatchWork},
        read_through::Place,
    },
};

/// Why most caches have no figures here.
const NO_BATCH: &str = "it has no call for many keys";

/// How many batches a turn has.
const TURN: usize = 60;

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    let mut table: Option<Table> = None;
    let version = Redis::start().await?.version().await?;
    for (column, op) in [
        ("get_many, us", BatchOp::GetMany),
        ("put_many, us", BatchOp::PutMany),
        ("get_or_load_many of new keys, us", BatchOp::GetOrLoadMany),
    ] {
        let server = Redis::start().await?;
        let mut sides = sides(&place(&server), op).await;
        let figures = medians(&mut sides, TURN, effort).await;
        let title = "100 keys in one call to Redis, one caller, without a near tier. The median in microseconds, less \
                     is better.";
        let table = table.get_or_insert_with(|| Table::new("batch", title, &sides));
        table.paired(column, &sides, &figures);
    }
    let mut table = table.ok_or("no column")?;
    table.servers.push(version);
    Ok(table)
}

async fn sides(place: &Place, op: BatchOp) -> Vec<Callers> {
    vec![
        filled(&redis::PEER, "MGET, pipeline of SET EX", op, redis::Raw::connect(place).await).await,
        filled(&fred::PEER, "MGET, pipeline of SET", op, fred::Raw::connect(place).await).await,
        absent(&cached::PEER, "AsyncRedisCache", NO_BATCH),
        absent(&cachet::PEER, "memory + redis", NO_BATCH),
        absent(&hitbox::PEER, "moka + redis", NO_BATCH),
        absent(&multi_tier_cache::PEER, "moka + redis", NO_BATCH),
        absent(&tiercache::PEER, "Lru + redis", NO_BATCH),
        absent(&oxcache::PEER, "get_many, set_many, JSON", oxcache::REASON),
        filled(&terrace::PEER, "the calls named above", op, terrace::redis_alone(place).await).await,
    ]
}

async fn filled<B: Batch>(peer: &'static Peer, usage: &str, op: BatchOp, batch: Result<B>) -> Callers {
    let work = match batch {
        Ok(batch) => BatchWork::filled(batch, op).await,
        Err(error) => Err(error),
    };
    callers(peer, usage, work)
}
