//! `redis-hit`, `put` and `miss`: single keys in a Redis.

use terrace_testbed::Redis;

use super::{absent, filled, place};
use crate::{
    Result,
    measure::{callers::throughputs, effort::Effort, side::Side},
    peers::{
        READ_THROUGHS, cached, cachet, fred, hitbox, moka, multi_tier_cache, oxcache, quick_cache, redis,
        terrace, tiercache,
    },
    report::table::Table,
    work::{loaders::Loader, remote::RemoteOp},
};

/// Measures `redis-hit`.
pub(super) async fn hit(effort: Effort) -> Result<Table> {
    let server = Redis::start().await?;
    let place = place(&server);
    let op = RemoteOp::Get;
    let mut sides = vec![
        filled(&redis::PEER, "GET", op, redis::Raw::connect(&place).await).await,
        filled(&fred::PEER, "GET", op, fred::Raw::connect(&place).await).await,
        filled(&cached::PEER, "AsyncRedisCache, MessagePack", op, cached::Shared::connect(&place).await)
            .await,
        filled(&cachet::PEER, "a Redis tier alone", op, cachet::redis_alone(&place).await).await,
        filled(&hitbox::PEER, "RedisBackend, bincode", op, hitbox::redis_alone(&place)).await,
        filled(&multi_tier_cache::PEER, "redis alone, JSON", op, multi_tier_cache::redis_alone(&place).await)
            .await,
        absent(&oxcache::PEER, "RedisBackend, JSON", oxcache::REASON),
        filled(&tiercache::PEER, "a Redis level alone", op, tiercache::Shared::redis_alone(&place).await)
            .await,
        filled(&terrace::PEER, "get", op, terrace::redis_alone(&place).await).await,
    ];
    let title = "Reads of one of 10,000 keys that are in Redis, without a near tier, with the value decoded \
                 (160 encoded bytes). Thousands a second, more is better.";
    let mut table = Table::new("redis-hit", title, &sides);
    table.servers.push(server.version().await?);
    for count in [1, 8, 12, 16, 32, 64, 256] {
        let figures = throughputs(&mut sides, count, effort).await;
        table.paired(format!("{count} at once, k/s"), &sides, &figures);
    }
    Ok(table)
}

/// Measures `put`.
pub(super) async fn put(effort: Effort) -> Result<Table> {
    let server = Redis::start().await?;
    let place = place(&server);
    let op = RemoteOp::Put;
    let mut sides = vec![
        filled(&redis::PEER, "SET EX", op, redis::Raw::connect(&place).await).await,
        filled(&fred::PEER, "SET EX", op, fred::Raw::connect(&place).await).await,
        filled(&moka::OVER_REDIS, "SET EX, then insert", op, moka::OverRedis::connect(&place).await).await,
        filled(
            &quick_cache::OVER_REDIS,
            "SET EX, then insert",
            op,
            quick_cache::OverRedis::connect(&place).await,
        )
        .await,
        filled(&cached::PEER, "AsyncRedisCache, no near tier", op, cached::Shared::connect(&place).await)
            .await,
        filled(&cachet::PEER, "memory + redis", op, cachet::layered(&place).await).await,
        filled(&hitbox::PEER, "RedisBackend, no near tier", op, hitbox::redis_alone(&place)).await,
        filled(&multi_tier_cache::PEER, "moka + redis, JSON", op, multi_tier_cache::layered(&place).await)
            .await,
        absent(&oxcache::PEER, "moka + redis, JSON", oxcache::REASON),
        filled(&tiercache::PEER, "Lru + redis", op, tiercache::Shared::layered(&place).await).await,
        filled(&terrace::PEER, "put, near off", op, terrace::redis_alone(&place).await).await,
        filled(&terrace::PEER, "put, near Memory", op, terrace::memory_and_redis(&place).await).await,
    ];
    let title = "Writes of one of 10,000 keys to Redis, and to the near tier where there is one. Thousands a \
                 second, more is better.";
    let mut table = Table::new("put", title, &sides);
    table.servers.push(server.version().await?);
    for count in [1, 32, 64] {
        let figures = throughputs(&mut sides, count, effort).await;
        table.paired(format!("{count} at once, k/s"), &sides, &figures);
    }
    Ok(table)
}

/// Measures `miss`.
pub(super) async fn miss(effort: Effort) -> Result<Table> {
    let mut table: Option<Table> = None;
    let version = Redis::start().await?.version().await?;
    for count in [1, 32, 64] {
        // A server for each column, since each read leaves a new key there.
        let server = Redis::start().await?;
        let mut sides = Vec::new();
        for candidate in READ_THROUGHS {
            let turns = (candidate.connect)(place(&server)).await.map(|cache| cache.misses(Loader::Instant));
            sides.push(Side::new(candidate.peer, candidate.usage, turns));
        }
        let figures = throughputs(&mut sides, count, effort).await;
        let title = "Reads through a near tier of 10,000 entries and Redis of keys that were never read, whose loader \
                     answers at once; the wait for fills in the background counts. Thousands a second, more is \
                     better.";
        let table = table.get_or_insert_with(|| Table::new("miss", title, &sides));
        table.paired(format!("{count} at once, k/s"), &sides, &figures);
    }
    let mut table = table.ok_or("no column")?;
    table.servers.push(version);
    Ok(table)
}
