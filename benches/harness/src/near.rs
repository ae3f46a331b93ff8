//! Near hits through `get` and `get_or_load`, beside hits of the raw engines.

use std::{convert::Infallible, hint::black_box, sync::Arc};

use terrace::{Cache, Memory, Quick, Ttl, near::Near};

use crate::{
    Effort, Result,
    data::{KEYS, Page, keys, scattered},
    measure::{
        row::{Row, Target, Unit},
        threads::{Turn, now, rounds},
    },
};

/// How many operations a turn has: about a millisecond, shorter than a time slice of the scheduler.
const TURN: usize = 5_000;
const ROUNDS: usize = 1_200;

/// A raw engine, whose hit ours is compared with.
pub trait Engine: Send + Sync + 'static {
    /// The value of a key.
    fn hit(&self, key: &str) -> Option<Arc<Page>>;
}

impl Engine for moka::sync::Cache<String, Arc<Page>> {
    #[inline]
    fn hit(&self, key: &str) -> Option<Arc<Page>> {
        self.get(key)
    }
}

impl Engine for quick_cache::sync::Cache<String, Arc<Page>> {
    #[inline]
    fn hit(&self, key: &str) -> Option<Arc<Page>> {
        self.get(key)
    }
}

/// A cache and the raw engine that its near tier uses, both with all [`KEYS`].
pub struct Pair<N, E> {
    keys: Vec<String>,
    /// The cache.
    pub cache: Cache<String, Page, N>,
    /// The raw engine.
    pub engine: E,
    /// Another raw engine, with values of its own.
    pub control: E,
}

/// `Memory` and moka. Must be called inside a runtime.
///
/// # Errors
/// Errors of the cache.
pub async fn memory() -> Result<Pair<Memory<String, Page>, moka::sync::Cache<String, Arc<Page>>>> {
    let engine = || {
        let engine = moka::sync::Cache::new(2 * KEYS as u64);
        keys().into_iter().enumerate().for_each(|(at, key)| engine.insert(key, Arc::new(Page::new(at))));
        engine.run_pending_tasks();
        engine
    };
    filled(Memory::entries(2 * KEYS as u64), engine).await
}

/// `Quick` and quick_cache. Must be called inside a runtime.
///
/// # Errors
/// Errors of the cache.
pub async fn quick() -> Result<Pair<Quick<String, Page>, quick_cache::sync::Cache<String, Arc<Page>>>> {
    let engine = || {
        let engine = quick_cache::sync::Cache::new(2 * KEYS);
        keys().into_iter().enumerate().for_each(|(at, key)| engine.insert(key, Arc::new(Page::new(at))));
        engine
    };
    filled(Quick::entries(2 * KEYS), engine).await
}

async fn filled<N: Near<String, Page>, E>(near: N, engine: impl Fn() -> E) -> Result<Pair<N, E>> {
    let raw = engine();
    let keys = keys();
    let cache = Cache::builder("pages").near(near).expire(Ttl::secs(3600)).build()?;
    for (at, key) in keys.iter().enumerate() {
        cache.put(key, Page::new(at)).await?;
    }
    // Reading the statistics makes the engine finish its pending writes.
    assert_eq!(cache.stats().near_entries, KEYS as u64);
    Ok(Pair { keys, cache, engine: raw, control: engine() })
}

impl<N: Near<String, Page>, E: Engine> Pair<N, E> {
    /// Runs a turn of `cache.get`.
    pub fn get(&self, start: usize) {
        for n in start..start + TURN {
            let hit = now(self.cache.get(self.key(n)));
            black_box(hit.ok().flatten().map(|page| page.number));
        }
    }

    /// Runs a turn of `cache.get_or_load`.
    pub fn get_or_load(&self, start: usize) {
        for n in start..start + TURN {
            let load = || async { Ok::<_, Infallible>(Page::new(0)) };
            let hit = now(self.cache.get_or_load(self.key(n), load));
            black_box(hit.ok().map(|page| page.number));
        }
    }

    /// Runs a turn of hits of a raw engine.
    pub fn raw(&self, engine: &E, start: usize) {
        for n in start..start + TURN {
            black_box(engine.hit(self.key(n)).map(|page| page.number));
        }
    }

    /// The `n`th key to read.
    #[inline]
    #[must_use]
    pub fn key(&self, n: usize) -> &str {
        &self.keys[scattered(n)]
    }

    fn rows(&self, effort: Effort, names: [&str; 2], target: f64, emit: &mut dyn FnMut(Row)) {
        let [ours, theirs] = names;
        for threads in [1, 2] {
            let mut row = |method: &str, turn: Turn<'_>| {
                let raw = |start| self.raw(&self.engine, start);
                let control = |start| self.raw(&self.control, start);
                let rounds = rounds(threads, effort.rounds(ROUNDS), TURN, [turn, &raw, &control]);
                let name = format!("{method}, {ours} / {theirs}, threads {threads}");
                emit(Row::new("near", name, Unit::Nanos, &rounds, Some(Target::AtMost(target))));
            };
            row("get", &|start| self.get(start));
            row("get_or_load", &|start| self.get_or_load(start));
        }
    }
}

/// Measures the rows of this group.
///
/// # Errors
/// Errors of the caches.
pub async fn rows(effort: Effort, emit: &mut dyn FnMut(Row)) -> Result<()> {
    memory().await?.rows(effort, ["Memory", "moka"], 1.1, emit);
    quick().await?.rows(effort, ["Quick", "quick_cache"], 1.35, emit);
    Ok(())
}
