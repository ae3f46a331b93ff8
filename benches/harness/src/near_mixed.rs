//! Reads and writes of near-only caches whose keys do not all fit, beside the raw engines: a skewed mix of reads and
//! puts, and loads that are ready at once.

use std::{
    convert::Infallible,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use terrace::{Cache, Memory, Quick, Ttl, near::Near};
use tokio::runtime::Handle;

use crate::{
    Effort, Result,
    data::{Page, key},
    measure::{
        row::{Round, Row, Target, Unit},
        threads::{Turn, now, rounds},
    },
};

/// How many keys the reads ask for, and how many of them fit.
const KEYS: usize = 100_000;
const CAPACITY: usize = 10_000;
/// The order of the reads has this length, and then begins again.
const READS: usize = 1 << 20;
/// One operation of so many is a put.
const OPS_PER_PUT: usize = 20;
/// How many operations a turn has: about two milliseconds.
const TURN: usize = 5_000;
const ROUNDS: usize = 600;
const LOADS_PER_TURN: usize = 1_000;

/// A raw engine of values behind an `Arc`, as the cache hands them out.
trait Engine: Send + Sync + 'static {
    fn hit(&self, key: &str) -> Option<Arc<Page>>;
    fn put(&self, key: String, page: Arc<Page>);
}

impl Engine for moka::sync::Cache<String, Arc<Page>> {
    fn hit(&self, key: &str) -> Option<Arc<Page>> {
        self.get(key)
    }

    fn put(&self, key: String, page: Arc<Page>) {
        self.insert(key, page);
    }
}

impl Engine for quick_cache::sync::Cache<String, Arc<Page>> {
    fn hit(&self, key: &str) -> Option<Arc<Page>> {
        self.get(key)
    }

    fn put(&self, key: String, page: Arc<Page>) {
        self.insert(key, page);
    }
}

/// The hits of one side, in all reads of it.
#[derive(Default)]
struct Hits {
    reads: AtomicU64,
    hits: AtomicU64,
}

impl Hits {
    fn add(&self, reads: u64, hits: u64) {
        self.reads.fetch_add(reads, Ordering::Relaxed);
        self.hits.fetch_add(hits, Ordering::Relaxed);
    }

    fn percent(&self) -> f64 {
        100.0 * self.hits.load(Ordering::Relaxed) as f64 / self.reads.load(Ordering::Relaxed) as f64
    }
}

/// The keys in the order of their reads: the `n`th most frequent key is read in proportion to `1 / n`.
struct Skewed {
    keys: Vec<String>,
    order: Vec<u32>,
}

impl Skewed {
    fn new() -> Self {
        let mut sum = 0.0;
        let weights = (1..=KEYS).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        let weights: Vec<f64> = weights.collect();
        // Weyl's sequence visits all parts of the interval evenly, and a multiplication hides its order.
        let draw = |n: usize| {
            let mixed = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            let at = (mixed ^ (mixed >> 32)) as f64 / u64::MAX as f64 * sum;
            weights.partition_point(|weight| *weight < at).min(KEYS - 1) as u32
        };
        let order = (0..READS).map(draw).collect();
        Self { keys: (0..KEYS).map(key).collect(), order }
    }

    fn key(&self, n: usize) -> (usize, &str) {
        let number = self.order[n % READS] as usize;
        (number, &self.keys[number])
    }

    /// A turn of reads, each of which puts what it missed, and of puts.
    fn turn(&self, start: usize, hits: &Hits, get: impl Fn(&str) -> bool, put: impl Fn(&str, Page)) {
        let (mut reads, mut found) = (0, 0);
        // The turns of the rounds begin a few operations after each other, so this spreads them.
        let start = start.wrapping_mul(7_919);
        for n in start..start + TURN {
            let (number, key) = self.key(n);
            if n % OPS_PER_PUT == 0 {
                put(key, Page::new(number));
                continue;
            }
            reads += 1;
            match get(key) {
                true => found += 1,
                false => put(key, Page::new(number)),
            }
        }
        hits.add(reads, found);
    }
}

fn mixed<N: Near<String, Page>, E: Engine>(
    effort: Effort,
    names: [&str; 2],
    cache: &Cache<String, Page, N>,
    engines: [&E; 2],
    target: f64,
    emit: &mut dyn FnMut(Row),
) {
    let (skewed, [ours, theirs]) = (Skewed::new(), names);
    // The first put starts the task that gives back ended entries, which needs this runtime.
    drop(now(cache.put(skewed.key(0).1, Page::new(0))));
    for threads in [1, 2] {
        let hits: [Hits; 3] = Default::default();
        let of_cache = |start| {
            let put = |key: &str, page| drop(black_box(now(cache.put(key, page))));
            skewed.turn(start, &hits[0], |key| now(cache.get(key)).is_ok_and(|hit| hit.is_some()), put);
        };
        let of_engine = |start, engine: &E, hits| {
            let put = |key: &str, page| engine.put(key.to_owned(), Arc::new(page));
            skewed.turn(start, hits, |key| black_box(engine.hit(key)).is_some(), put);
        };
        let raw = |start| of_engine(start, engines[0], &hits[1]);
        let control = |start| of_engine(start, engines[1], &hits[2]);
        let sides: [Turn<'_>; 3] = [&of_cache, &raw, &control];
        let rounds = rounds(threads, effort.rounds(ROUNDS), TURN, sides);
        let name = format!("skewed get and put, {ours} / {theirs}, threads {threads}");
        emit(Row::new("near", name, Unit::Nanos, &rounds, Some(Target::AtMost(target))));
        let [own, raw, control] = hits.map(|hits| 100.0 - hits.percent());
        let missed = [Round { ours: own, raw, control }];
        let name = format!("misses of the same in percent, {ours} / {theirs}, threads {threads}");
        let most = (raw + 0.3) / raw;
        emit(Row::new("near", name, Unit::Percent, &missed, Some(Target::AtMost(most))));
    }
}

/// New keys, each loaded by a loader that is ready at once. The raw engine is moka, with its own single flight.
fn loads<N: Near<u64, Page>>(
    effort: Effort,
    ours: &str,
    cache: &Cache<u64, Page, N>,
    emit: &mut dyn FnMut(Row),
) {
    let engines = [(); 2].map(|()| moka::sync::Cache::<u64, Arc<Page>>::new(CAPACITY as u64));
    let next = AtomicU64::new(0);
    let fresh = || next.fetch_add(LOADS_PER_TURN as u64, Ordering::Relaxed);
    let runtime = Handle::current();
    for threads in [1, 2] {
        let of_cache = |_| {
            let (_runtime, first) = (runtime.enter(), fresh());
            for key in first..first + LOADS_PER_TURN as u64 {
                let load = move || async move { Ok::<_, Infallible>(Page::new(key as usize)) };
                drop(black_box(now(cache.get_or_load(&key, load))));
            }
        };
        let of_engine = |engine: &moka::sync::Cache<u64, Arc<Page>>| {
            let first = fresh();
            for key in first..first + LOADS_PER_TURN as u64 {
                black_box(engine.get_with(key, || Arc::new(Page::new(key as usize))));
            }
        };
        let (raw, control) = (|_| of_engine(&engines[0]), |_| of_engine(&engines[1]));
        let rounds = rounds(threads, effort.rounds(ROUNDS), LOADS_PER_TURN, [&of_cache, &raw, &control]);
        let name = format!("get_or_load of a new key, {ours} / moka's get_with, threads {threads}");
        emit(Row::new("near", name, Unit::Nanos, &rounds, Some(Target::AtMost(2.0))));
    }
}

/// Measures the rows of this file. Must be called inside a runtime.
///
/// # Errors
/// Errors of the caches.
pub fn rows(effort: Effort, emit: &mut dyn FnMut(Row)) -> Result<()> {
    let hour = || Ttl::secs(3600);
    let moka = || moka::sync::Cache::new(CAPACITY as u64);
    let cache = Cache::builder("pages").near(Memory::entries(CAPACITY as u64)).expire(hour()).build()?;
    mixed(effort, ["Memory", "moka"], &cache, [&moka(), &moka()], 1.0 / 0.9, emit);
    let quick = || quick_cache::sync::Cache::new(CAPACITY);
    let cache = Cache::builder("pages").near(Quick::entries(CAPACITY)).expire(hour()).build()?;
    mixed(effort, ["Quick", "quick_cache"], &cache, [&quick(), &quick()], 1.0 / 0.6, emit);
    let cache = Cache::builder("pages").near(Memory::entries(CAPACITY as u64)).expire(hour()).build()?;
    loads(effort, "Memory", &cache, emit);
    let cache = Cache::builder("pages").near(Quick::entries(CAPACITY)).expire(hour()).build()?;
    loads(effort, "Quick", &cache, emit);
    Ok(())
}
