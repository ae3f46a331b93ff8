//! The rows, one file each.

mod batch;
mod near_hit;
mod near_miss;
mod outage;
mod postgres;
mod profile;
mod redis;
mod stale;
pub mod stampede;
mod three_tiers;
mod zipf;

use futures_util::future::LocalBoxFuture;
use terrace_testbed::{Redis, unique_name};
use tokio::runtime::Handle;

use crate::{
    Result,
    measure::{
        callers::{Callers, callers},
        effort::Effort,
        side::Side,
    },
    peer::Peer,
    peers::{
        cached, cachet, foyer, hitbox, moka, multi_tier_cache, oxcache, quick_cache, terrace, tiercache,
    },
    report::table::Table,
    work::{
        near::{NearSide, near},
        read_through::Place,
        remote::{Remote, RemoteOp, RemoteWork},
    },
};

/// A row: its name, and what measures it.
pub struct Row {
    /// The name by which the row is asked for.
    pub name: &'static str,
    /// Measures the row.
    pub run: fn(Effort) -> LocalBoxFuture<'static, Result<Table>>,
}

/// All rows, in the order of the document.
pub const ROWS: &[Row] = &[
    Row { name: "near-hit", run: |effort| Box::pin(near_hit::run(effort)) },
    Row { name: "zipf", run: |effort| Box::pin(zipf::run(effort)) },
    Row { name: "near-miss", run: |effort| Box::pin(near_miss::run(effort)) },
    Row { name: "redis-hit", run: |effort| Box::pin(redis::hit(effort)) },
    Row { name: "put", run: |effort| Box::pin(redis::put(effort)) },
    Row { name: "miss", run: |effort| Box::pin(redis::miss(effort)) },
    Row { name: "profile", run: |effort| Box::pin(profile::run(effort)) },
    Row { name: "batch", run: |effort| Box::pin(batch::run(effort)) },
    Row { name: "three-tier", run: |effort| Box::pin(three_tiers::run(effort)) },
    Row { name: "postgres-put", run: |effort| Box::pin(postgres::put(effort)) },
    Row { name: "postgres-get", run: |effort| Box::pin(postgres::get(effort)) },
    Row { name: "stampede", run: |effort| Box::pin(stampede::run(effort)) },
    Row { name: "stale", run: |effort| Box::pin(stale::run(effort)) },
    Row { name: "outage", run: |effort| Box::pin(outage::run(effort)) },
];

/// Runs work that blocks its thread, with the runtime for the futures in it.
async fn blocking<T: Send + 'static>(work: impl FnOnce(Handle) -> Result<T> + Send + 'static) -> Result<T> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || work(runtime)).await?
}

/// A place of its own in a server.
fn place(server: &Redis) -> Place {
    Place { url: server.url(), namespace: unique_name("peers") }
}

/// A side whose keys are all there.
async fn filled<R: Remote>(peer: &'static Peer, usage: &str, op: RemoteOp, remote: Result<R>) -> Callers {
    let work = match remote {
        Ok(remote) => RemoteWork::filled(remote, op).await,
        Err(error) => Err(error),
    };
    callers(peer, usage, work)
}

/// All caches in the process alone, which hold so many entries. `Quick` is compared with quick_cache, all others
/// with moka.
async fn near_sides(entries: usize) -> Vec<NearSide> {
    vec![
        near(&moka::PEER, "sync", Ok(moka::SyncCache::new(entries))),
        near(&quick_cache::PEER, "sync", Ok(quick_cache::Local::new(entries))),
        near(&moka::PEER, "future", Ok(moka::FutureCache::new(entries))),
        near(&foyer::PEER, "in memory", Ok(foyer::Local::new(entries))),
        near(&cached::PEER, "ShardedLruCache", Ok(cached::Local::new(entries))),
        near(&cachet::PEER, "memory", Ok(cachet::local(entries, false))),
        near(&cachet::PEER, "memory, protected", Ok(cachet::local(entries, true))),
        near(&hitbox::PEER, "MokaBackend, bincode", Ok(hitbox::local(entries))),
        near(&multi_tier_cache::PEER, "moka, JSON", multi_tier_cache::local(entries).await),
        Side::new(&oxcache::PEER, "moka", Err(oxcache::REASON.into())),
        near(&tiercache::PEER, "Lru", Ok(tiercache::Local::new(entries))),
        near(&terrace::PEER, "Memory", terrace::memory(entries)),
        near(&terrace::PEER, "Quick", terrace::quick(entries)).beside(1),
    ]
}

/// A side that cannot be measured.
fn absent(peer: &'static Peer, usage: &str, reason: &str) -> Callers {
    Side::new(peer, usage, Err(reason.into()))
}
