//! The cost of a miss: read-through of new keys, and a stampede on one key.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use redis::AsyncCommands;
use terrace::{Cache, Memory};
use tokio::task::JoinSet;

use crate::{
    Effort, Error, Result,
    data::{Page, User, key},
    measure::{
        callers::{Work, throughputs},
        row::{Round, Row, Unit},
        threads::ORDERS,
    },
    remote::{Raw, Remote, TTL_SECS},
};

/// How many callers a stampede has.
pub const CROWD: usize = 1_000;
const STAMPEDES: usize = 120;

/// Calls `cache.get_or_load` on a key that no tier has: a lease, a load that returns at once, a fill.
#[derive(Clone)]
pub struct Miss(pub Remote);
/// Runs GET, a load that returns at once, and SET.
#[derive(Clone)]
pub struct RawMiss(pub Raw);

/// The number of the next key that was never read.
static NEW_KEYS: AtomicUsize = AtomicUsize::new(1_000_000);

fn new_key() -> usize {
    NEW_KEYS.fetch_add(1, Ordering::Relaxed)
}

impl Work for Miss {
    async fn run(&self, _n: usize) -> Result<()> {
        let n = new_key();
        self.0.cache.get_or_load(&key(n), move || async move { Ok::<_, Infallible>(User::new(n)) }).await?;
        Ok(())
    }

    async fn settle(&self) {
        self.0.cache.settled().await;
    }
}

impl Work for RawMiss {
    async fn run(&self, _n: usize) -> Result<()> {
        let n = new_key();
        let (key, mut raw) = (self.0.key(n), self.0.connection.clone());
        let found: Option<Vec<u8>> = raw.get(&key).await?;
        if found.is_none() {
            raw.set_ex::<_, _, ()>(&key, postcard::to_stdvec(&User::new(n))?, TTL_SECS).await?;
        }
        Ok(())
    }
}

/// A crowd of callers whose load ends when all of them have arrived.
#[derive(Clone, Default)]
struct Crowd(Arc<Counts>);

#[derive(Default)]
struct Counts {
    arrived: AtomicUsize,
    loads: AtomicUsize,
}

impl Crowd {
    fn arrive(&self) {
        self.0.arrived.fetch_add(1, Ordering::AcqRel);
    }

    async fn load(self) -> Page {
        self.0.loads.fetch_add(1, Ordering::AcqRel);
        while self.0.arrived.load(Ordering::Acquire) < CROWD {
            tokio::task::yield_now().await;
        }
        Page::new(0)
    }

    fn loads(&self) -> usize {
        self.0.loads.load(Ordering::Acquire)
    }
}

/// Lets [`CROWD`] callers call `cache.get_or_load` on one cold key. Returns the number of loads.
///
/// # Errors
/// Errors of the cache.
pub async fn stampede(cache: &Cache<String, Page, Memory<String, Page>>) -> Result<usize> {
    let (crowd, key) = (Crowd::default(), key(new_key()));
    let mut tasks = JoinSet::new();
    for _ in 0..CROWD {
        let (cache, crowd, key) = (cache.clone(), crowd.clone(), key.clone());
        tasks.spawn(async move {
            crowd.arrive();
            let load = || async { Ok::<_, Infallible>(crowd.load().await) };
            cache.get_or_load(&key, load).await.map(|page| page.number)
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(crowd.loads())
}

/// Does the same as [`stampede`] with quick_cache's own `get_or_insert_async`, which also lets one
/// caller load for all.
///
/// # Errors
/// The panic of a task.
pub async fn raw_stampede(engine: &Arc<quick_cache::sync::Cache<String, Arc<Page>>>) -> Result<usize> {
    let (crowd, key) = (Crowd::default(), key(new_key()));
    let mut tasks = JoinSet::new();
    for _ in 0..CROWD {
        let (engine, crowd, key) = (Arc::clone(engine), crowd.clone(), key.clone());
        tasks.spawn(async move {
            crowd.arrive();
            let load = async { Ok::<_, Infallible>(Arc::new(crowd.load().await)) };
            engine.get_or_insert_async(&key, load).await.map(|page| page.number)
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(crowd.loads())
}

/// Measures the row of the stampede: microseconds until all callers have the value.
///
/// # Errors
/// Errors of the cache; more than one load.
pub async fn stampede_row(effort: Effort, emit: &mut dyn FnMut(Row)) -> Result<()> {
    let cache = Cache::builder("stampede").near(Memory::entries(1_000)).build()?;
    let engine = Arc::new(quick_cache::sync::Cache::new(1_000));
    let rounds = tokio::spawn(async move {
        let mut rounds = Vec::new();
        for _ in 0..effort.rounds(STAMPEDES) {
            let mut spent = [0.0; 3];
            for side in ORDERS[rounds.len() % ORDERS.len()] {
                let began = std::time::Instant::now();
                let loads = match side {
                    0 => stampede(&cache).await?,
                    _ => raw_stampede(&engine).await?,
                };
                spent[side] = began.elapsed().as_secs_f64() * 1e6;
                if loads != 1 {
                    return Err(format!("{loads} loads of one key").into());
                }
            }
            let [ours, raw, control] = spent;
            rounds.push(Round { ours, raw, control });
        }
        Ok::<_, Error>(rounds)
    });
    let name = format!("get_or_load / quick_cache, callers {CROWD} on one cold key");
    emit(Row::new("load", name, Unit::Micros, &rounds.await??, None));
    Ok(())
}

/// Measures the rows of this group.
///
/// # Errors
/// Errors of the server; more than one load in a stampede.
pub async fn rows(effort: Effort, url: &str, emit: &mut dyn FnMut(Row)) -> Result<()> {
    let remote = Remote::connect(url).await?;
    let (raw, control) = (RawMiss(remote.raw.clone()), RawMiss(remote.control.clone()));
    let miss = Miss(remote);
    for callers in [1, 32] {
        let rounds = throughputs((&miss, &raw, &control), callers, effort).await?;
        let name = format!("get_or_load of new keys / GET and SET, callers {callers}");
        emit(Row::new("load", name, Unit::Thousands, &rounds, None));
    }
    stampede_row(effort, emit).await
}
