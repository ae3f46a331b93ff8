//! Round after round, and the proof that the checkers notice a broken cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use terrace::BoxError;
use terrace_testbed::Postgres;

use super::{
    Judged, judge,
    plan::{Demand, Fault, LeftOut, Plan, STACKS, Stack},
    record::Recording,
    round,
};
use crate::decided::Decided;

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// This many rounds, from a seed on.
    Rounds(u64),
    /// Four rounds, and more until this much time has passed.
    Time(Duration),
}

/// The results of the rounds of one stack and level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) rounds: u64,
    pub(crate) reads: u64,
    pub(crate) near: u64,
    pub(crate) failed_reads: u64,
    pub(crate) writes: u64,
    pub(crate) processes: u64,
    pub(crate) violations: u64,
    pub(crate) decided: Decided,
    pub(crate) stalest: Duration,
}

/// The results of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Real {
    pub(crate) from: u64,
    pub(crate) elapsed: Duration,
    pub(crate) rows: BTreeMap<(Stack, Demand), Row>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// Faults that the plans asked for, and that were never injected.
    pub(crate) missing: BTreeSet<Fault>,
    /// What went wrong, with the seed and, where there is one, the recording.
    pub(crate) failures: Vec<(u64, String, Option<PathBuf>)>,
    /// Defences that were left out, and whether a checker noticed.
    pub(crate) left_out: Vec<(LeftOut, bool)>,
}

/// The defences that this build can leave out. The first is one of the cache itself.
const LEFT_OUT: &[LeftOut] = match cfg!(terrace_simulation) {
    true => &[LeftOut::WriteOrder, LeftOut::Fences, LeftOut::Lives],
    false => &[LeftOut::Fences, LeftOut::Lives],
};

/// Rounds until a violation must have shown that a defence is left out.
const TRIES: u64 = 6;

impl Real {
    pub(crate) fn is_good(&self) -> bool {
        self.failures.is_empty()
            && self.missing.is_empty()
            && !self.rows.values().any(|row| row.decided.is_too_little())
            && self.left_out.iter().all(|(_, caught)| *caught)
    }
}

/// Runs rounds from a seed on; recordings of those that fail are kept in a folder.
pub(crate) fn run(from: u64, until: Until, keep: &Path) -> Result<Real, BoxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let postgres = Postgres::start().await?;
        let began = Instant::now();
        let mut real = Real { from, ..Real::default() };
        let mut asked = BTreeSet::new();
        for seed in from.. {
            let over = match until {
                Until::Rounds(rounds) => seed - from >= rounds,
                Until::Time(time) => began.elapsed() >= time && seed - from >= STACKS.len() as u64,
            };
            if over {
                break;
            }
            let plan = Plan::of_seed(seed);
            asked.extend(plan.asked());
            real.add(&plan, round::run(&plan, &postgres).await, keep);
        }
        real.missing = asked.into_iter().filter(|fault| !real.faults.contains_key(fault)).collect();
        if !matches!(until, Until::Rounds(1)) {
            for &defence in LEFT_OUT {
                let caught = is_missed(defence, from, &postgres).await?;
                real.left_out.push((defence, caught));
            }
        }
        real.elapsed = began.elapsed();
        Ok(real)
    })
}

/// Whether the checkers notice that a defence is left out.
async fn is_missed(defence: LeftOut, from: u64, postgres: &Postgres) -> Result<bool, BoxError> {
    for seed in (0..TRIES).map(|number| from + number * STACKS.len() as u64) {
        let recording = round::run(&Plan::without(defence, seed), postgres).await?;
        if !judge(&recording).violations.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Real {
    fn add(&mut self, plan: &Plan, recording: Result<Recording, BoxError>, keep: &Path) {
        let row = self.rows.entry((plan.stack, plan.demand)).or_default();
        row.rounds += 1;
        let recording = match recording {
            Ok(recording) => recording,
            Err(error) => {
                row.violations += 1;
                self.failures.push((plan.seed, format!("{}: the round failed: {error}", plan.stack), None));
                return;
            }
        };
        let judged = judge(&recording);
        row.add(&judged);
        eprintln!(
            "round {}, {}: {} reads, {} violations",
            plan.seed,
            plan.stack,
            judged.reads,
            judged.violations.len()
        );
        for (fault, count) in &judged.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        let few = (judged.reads < round::FEWEST_READS as u64)
            .then(|| format!("{} reads mean nothing", judged.reads));
        let nothing =
            judged.decided.is_some_and(Decided::is_nothing).then(|| "no key was decided".to_owned());
        let what = judged.violations.first().map(ToString::to_string).or(few).or(nothing);
        if let Some(what) = what {
            let kept = save(&recording, keep).ok();
            self.failures.push((plan.seed, format!("{}: {what}", plan.stack), kept));
        }
    }
}

impl Row {
    fn add(&mut self, judged: &Judged) {
        self.reads += judged.reads;
        self.near += judged.near;
        self.failed_reads += judged.failed_reads;
        self.writes += judged.writes;
        self.processes += judged.processes;
        self.violations += judged.violations.len() as u64;
        self.decided.add(judged.decided.unwrap_or_default());
        self.stalest = self.stalest.max(judged.stalest);
    }
}

fn save(recording: &Recording, keep: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(keep)?;
    let path = keep.join(format!("round-{}.jsonl", recording.plan.seed));
    recording.save(&path)?;
    path.canonicalize()
}
