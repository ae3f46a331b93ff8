//! One round of one row: a stack under a load, in a namespace of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use terrace::{Stats, TierStats, near::Near};

use super::{
    closed::{self, Closed},
    control::Control,
    counted::Calls,
    fault::Fault,
    feed::Feed,
    latency::Latencies,
    meter::Meter,
    open::{self, Open},
    payload::Payload,
    serve::Origin,
    stack::{BuiltCache, Servers, StackCache, StackSpec, with_cache},
    watch::{Slice, Watch, Watched},
};
use crate::{failure::Result, workload::Workload};

/// How the requests of a round arrive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// From so many callers.
    Closed(usize),
    /// So many in a second.
    Open(f64),
}

/// What a round needs.
pub(super) struct RoundPlan<'a> {
    pub(super) spec: &'a StackSpec,
    pub(super) servers: &'a Arc<Servers>,
    pub(super) workload: &'a Workload,
    pub(super) load: Load,
    pub(super) origin: Origin,
    pub(super) warm_up: u64,
    pub(super) time: Option<Duration>,
    pub(super) latency_every: u32,
    pub(super) in_flight: usize,
    pub(super) faults: &'a [Fault],
    pub(super) control: &'a Control,
    pub(super) bar: ProgressBar,
}

/// What a round found.
pub(super) struct RoundOutcome {
    pub(super) meter: Meter,
    pub(super) lateness: Option<Latencies>,
    pub(super) elapsed: Duration,
    /// The time of the processor on all threads.
    pub(super) cpu: Duration,
    pub(super) allocations: u64,
    /// The counters of the cache, without those of the warm-up.
    pub(super) stats: Stats,
    pub(super) calls: Vec<(String, Calls)>,
    /// The bytes that the data of each tier take.
    pub(super) held: Vec<(String, u64)>,
    pub(super) slices: Vec<Slice>,
    pub(super) faults_made: usize,
    /// How often callers had to wait for the workload.
    pub(super) starved: u64,
}

/// Numbers the namespaces of a process.
static ROUNDS: AtomicU64 = AtomicU64::new(0);

/// Runs the round.
pub(super) async fn run(plan: RoundPlan<'_>) -> Result<RoundOutcome> {
    plan.servers.empty()?;
    let namespace = format!("bench-{}-{}", std::process::id(), ROUNDS.fetch_add(1, Ordering::Relaxed));
    let held_before = plan.servers.bytes();
    let heap_before = Heap::now();
    let built = BuiltCache::build(plan.spec, plan.servers, &namespace).await?;
    let callers = match plan.load {
        Load::Closed(callers) => callers,
        Load::Open(_) => 1,
    };
    let feed = Feed::start(plan.workload.open()?, callers)?;
    let measured = with_cache!(built.cache.clone(), cache => measure(&plan, &built, cache, &feed).await);
    let ended = feed.end();
    let mut outcome = measured?;
    ended?;
    outcome.starved = feed.starved();
    drop(feed);
    with_cache!(&built.cache, cache => cache.settled().await);
    outcome.held = held_bytes(&plan, &held_before, &heap_before);
    built.close().await;
    Ok(outcome)
}

async fn measure<N: Near<u64, Payload>>(
    plan: &RoundPlan<'_>,
    built: &BuiltCache,
    cache: StackCache<N>,
    feed: &Feed,
) -> Result<RoundOutcome> {
    warm_up(plan, &cache, feed).await?;
    let before = built.stats();
    built.calls.iter().for_each(|(_, counters)| drop(counters.take()));
    plan.control.begin_row();
    let watch = Watch::start(Watched {
        cache: BuiltCache { cache: built.cache.clone(), calls: built.calls.clone() },
        servers: Arc::clone(plan.servers),
        faults: plan.faults.to_vec(),
        control: plan.control.clone(),
        bar: plan.bar.clone(),
    })?;
    let (began, cpu, heap) = (Instant::now(), cpu_time(), Heap::now());
    let driven = match plan.load {
        Load::Closed(callers) => {
            let (latency_every, time, origin) = (plan.latency_every, plan.time, plan.origin);
            let closed = Closed { callers, latency_every, time, origin };
            closed::drive(&cache, feed, closed, plan.control).await.map(|meter| (meter, None))
        }
        Load::Open(per_second) => {
            let (time, origin, seed) = (plan.time, plan.origin, plan.workload.seed);
            let open = Open { per_second, in_flight: plan.in_flight, time, origin, seed };
            let outcome = open::drive(&cache, feed, open, plan.control).await;
            outcome.map(|outcome| (outcome.meter, Some(outcome.lateness)))
        }
    };
    let (elapsed, cpu, allocations) =
        (began.elapsed(), cpu_time() - cpu, Heap::now().allocations - heap.allocations);
    let watched = watch.end();
    let (meter, lateness) = driven?;
    let (slices, faults_made) = watched?;
    let calls = built.calls.iter().map(|(name, counters)| (name.clone(), counters.take()));
    Ok(RoundOutcome {
        meter,
        lateness,
        elapsed,
        cpu,
        allocations,
        stats: difference(built.stats(), &before),
        calls: calls.collect(),
        held: Vec::new(),
        slices,
        faults_made,
        starved: 0,
    })
}

async fn warm_up<N: Near<u64, Payload>>(
    plan: &RoundPlan<'_>,
    cache: &StackCache<N>,
    feed: &Feed,
) -> Result<()> {
    // Nobody waits for the answers of a warm-up, so the origin gives them at once.
    let origin = Origin::default();
    let batches = feed.take(plan.warm_up).await;
    for request in batches.iter().flatten() {
        if plan.control.is_interrupted() {
            break;
        }
        super::serve::serve(cache, origin, request).await?;
    }
    cache.settled().await;
    Ok(())
}

fn held_bytes(plan: &RoundPlan<'_>, before: &[(&str, u64)], heap: &Heap) -> Vec<(String, u64)> {
    let mut held = Vec::new();
    if plan.spec.tiers().contains(&"memory") {
        held.push(("memory".to_owned(), Heap::now().live.saturating_sub(heap.live)));
    }
    for (tier, bytes) in plan.servers.bytes() {
        let was = before.iter().find(|(name, _)| *name == tier).map_or(0, |(_, bytes)| *bytes);
        held.push((tier.to_owned(), bytes.saturating_sub(was)));
    }
    held
}

/// The allocations of the process.
struct Heap {
    allocations: u64,
    live: u64,
}

impl Heap {
    fn now() -> Self {
        let stats = crate::ALLOCATOR.stats();
        let live = stats.bytes_allocated.saturating_sub(stats.bytes_deallocated);
        Self { allocations: (stats.allocations + stats.reallocations) as u64, live: live as u64 }
    }
}

/// The time of the processor that all threads of the process have used.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The counters of a cache since an earlier moment.
fn difference(mut now: Stats, before: &Stats) -> Stats {
    let less = |tier: &mut TierStats| {
        let Some(before) = before.tier(&tier.name) else { return };
        tier.hits -= before.hits;
        tier.misses -= before.misses;
        tier.fills -= before.fills;
        tier.errors -= before.errors;
    };
    now.tiers.iter_mut().for_each(less);
    now.loads -= before.loads;
    now
}
