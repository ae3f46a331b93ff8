//! Simulates seed after seed, on all cores.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use terrace_core::Level;
use terrace_simulation::{Plan, Run, simulate};

use crate::decided::Decided;

/// The sums over the simulations of one level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) reads: u64,
    pub(crate) failed_reads: u64,
    pub(crate) stale: u64,
    pub(crate) other_levels: u64,
    pub(crate) writes: u64,
    pub(crate) violations: u64,
    pub(crate) decided: Decided,
    pub(crate) seeds: u64,
    pub(crate) faults: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) notices: u64,
    pub(crate) gaps: u64,
    pub(crate) steps: u64,
    pub(crate) renewals: u64,
    pub(crate) looks: u64,
    pub(crate) announced: u64,
    pub(crate) longest_call: Duration,
    /// The seeds that failed, each with its first violation.
    pub(crate) failures: Vec<(u64, String)>,
}

/// All simulations, by level.
#[derive(Debug)]
pub(crate) struct Simulated {
    pub(crate) levels: BTreeMap<String, Tally>,
    pub(crate) from: u64,
    pub(crate) elapsed: Duration,
}

/// Simulates seeds from `from` on until both `time` has passed and `reads` were checked.
pub(crate) fn run(from: u64, time: Duration, reads: u64) -> Simulated {
    let began = Instant::now();
    let (next, checked) = (AtomicU64::new(from), AtomicU64::new(0));
    let levels: Mutex<BTreeMap<String, Tally>> = Mutex::default();
    let work = || {
        while began.elapsed() < time || checked.load(Ordering::Relaxed) < reads {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let plan = Plan::of_seed(seed);
            let tally = Tally::of(seed, &plan, simulate(&plan));
            checked.fetch_add(tally.reads, Ordering::Relaxed);
            let mut levels = levels.lock().unwrap_or_else(PoisonError::into_inner);
            levels.entry(level_of(&plan)).or_default().add(tally);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let levels = levels.into_inner().unwrap_or_else(PoisonError::into_inner);
    Simulated { levels, from, elapsed: began.elapsed() }
}

/// The promise that the plan's history was checked for.
fn level_of(plan: &Plan) -> String {
    match plan.stack.level {
        _ if plan.limits.loads.is_some() => "One load among processes".to_owned(),
        Level::Fenced if plan.stack.is_linear() => "Fenced, a store alone: linearizable".to_owned(),
        Level::Ttl => "Ttl".to_owned(),
        Level::Fenced => "Fenced".to_owned(),
        Level::Bounded(_) => "Bounded".to_owned(),
        Level::Strong => "Strong: linearizable".to_owned(),
        other => other.name().to_owned(),
    }
}

impl Tally {
    fn of(seed: u64, plan: &Plan, run: terrace_core::Result<Run>) -> Self {
        let run = match run {
            Ok(run) => run,
            Err(error) => {
                let failures = vec![(seed, format!("{}: {error}", plan.stack))];
                return Self { violations: 1, seeds: 1, failures, ..Self::default() };
            }
        };
        let decided = Decided::new(run.keys, run.undecided.len());
        let nothing =
            || (plan.stack.is_linear() && decided.is_nothing()).then(|| "no key was decided".to_owned());
        let what = run.violations.first().map(ToString::to_string).or_else(nothing);
        let failures = what.map(|what| (seed, format!("{}: {what}", plan.stack)));
        Self {
            reads: run.history.reads.len() as u64,
            failed_reads: run.counts.failed_reads,
            stale: run.counts.stale_reads,
            other_levels: run.counts.other_levels,
            writes: run.history.writes.len() as u64,
            violations: run.violations.len() as u64,
            decided,
            seeds: 1,
            faults: run.counts.faults,
            lost: run.counts.lost,
            late: run.counts.late,
            notices: run.counts.notices,
            gaps: run.counts.gaps,
            steps: run.counts.steps,
            renewals: run.counts.renewals,
            looks: run.counts.looks,
            announced: run.counts.announced,
            longest_call: run.counts.longest_call,
            failures: failures.into_iter().collect(),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.failed_reads += other.failed_reads;
        self.stale += other.stale;
        self.other_levels += other.other_levels;
        self.writes += other.writes;
        self.violations += other.violations;
        self.decided.add(other.decided);
        self.seeds += other.seeds;
        self.faults += other.faults;
        self.lost += other.lost;
        self.late += other.late;
        self.notices += other.notices;
        self.gaps += other.gaps;
        self.steps += other.steps;
        self.renewals += other.renewals;
        self.looks += other.looks;
        self.announced += other.announced;
        self.longest_call = self.longest_call.max(other.longest_call);
        self.failures.extend(other.failures);
    }
}
