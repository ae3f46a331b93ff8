//! The rows of a run and the order in which they are measured.

use std::{collections::BTreeMap, sync::Arc};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    command::RunCommand,
    control::Control,
    cost::Cost,
    latency::Latencies,
    meter::Meter,
    row::{self, Load, RoundOutcome, RoundPlan},
    serve::Origin,
    stack::{Servers, StackSpec},
};
use crate::{
    failure::Result,
    report::{Arrival, Round, Row, TierRow},
};

/// How long the highest rate of a stack is measured before an open loop at a share of it.
const CALIBRATION: std::time::Duration = std::time::Duration::from_secs(2);

/// A stack with its servers, and what its rounds found.
pub(super) struct StackRun {
    pub(super) spec: StackSpec,
    servers: Arc<Servers>,
    loads: Vec<Load>,
    /// The rounds of each load.
    outcomes: Vec<Vec<RoundOutcome>>,
}

impl StackRun {
    /// Starts the servers of a stack.
    pub(super) async fn start(spec: StackSpec, command: &RunCommand) -> Result<Self> {
        let slowed = command.slowed_tiers();
        let servers = Arc::new(Servers::start(&spec, &slowed).await?);
        let loads: Vec<Load> = match command.arrival.has_closed() {
            true => command.concurrency.iter().map(|callers| Load::Closed(*callers)).collect(),
            false => Vec::new(),
        };
        let outcomes = loads.iter().map(|_| Vec::new()).collect();
        Ok(Self { spec, servers, loads, outcomes })
    }

    /// Adds an open loop, whose rate may be a share of the highest rate of this stack.
    pub(super) async fn add_open(&mut self, command: &RunCommand, control: &Control) -> Result<Option<f64>> {
        let Some(rate) = command.rate else { return Ok(None) };
        let (rate, highest) = match rate {
            super::command::Rate::PerSecond(rate) => (rate, None),
            super::command::Rate::Share(share) => {
                let callers = command.concurrency.iter().copied().max().unwrap_or(1);
                let mut plan = self.plan(command, Load::Closed(callers), control, ProgressBar::hidden());
                (plan.time, plan.faults) = (Some(CALIBRATION), &[]);
                let outcome = row::run(plan).await?;
                let highest = outcome.meter.requests as f64 / outcome.elapsed.as_secs_f64();
                (highest * share, Some(highest))
            }
        };
        self.loads.push(Load::Open(rate.max(1.0)));
        self.outcomes.push(Vec::new());
        Ok(highest)
    }

    fn plan<'a>(
        &'a self,
        command: &'a RunCommand,
        load: Load,
        control: &'a Control,
        bar: ProgressBar,
    ) -> RoundPlan<'a> {
        RoundPlan {
            spec: &self.spec,
            servers: &self.servers,
            workload: &command.workload,
            load,
            origin: Origin { delay: command.origin_delay },
            warm_up: command.warm_up,
            time: command.seconds,
            latency_every: self.latency_every(command),
            in_flight: command.in_flight,
            faults: &command.faults,
            control,
            bar,
        }
    }

    /// A remote call takes so long that each is measured. Of near hits one in 16 is, unless the user says more.
    fn latency_every(&self, command: &RunCommand) -> u32 {
        let usual = if self.is_remote() || !command.origin_delay.is_zero() { 1 } else { 16 };
        command.latency_every.unwrap_or(usual).max(1)
    }

    fn is_remote(&self) -> bool {
        self.spec.tiers().iter().any(|tier| *tier != "memory")
    }

    /// Measures each load once.
    pub(super) async fn round(&mut self, command: &RunCommand, control: &Control) -> Result<()> {
        for place in 0..self.loads.len() {
            if control.is_interrupted() {
                return Ok(());
            }
            let load = self.loads[place];
            let bar = progress_bar(command, &self.spec.name, load);
            let outcome = row::run(self.plan(command, load, control, bar.clone())).await;
            bar.finish_and_clear();
            self.outcomes[place].push(outcome?);
        }
        Ok(())
    }

    /// The rows of what was measured.
    pub(super) fn rows(&self, command: &RunCommand, notes: &mut Vec<String>) -> Vec<Row> {
        let measured = self.loads.iter().zip(&self.outcomes).filter(|(_, rounds)| !rounds.is_empty());
        measured.map(|(load, rounds)| self.row(command, *load, rounds, notes)).collect()
    }

    fn row(&self, command: &RunCommand, load: Load, rounds: &[RoundOutcome], notes: &mut Vec<String>) -> Row {
        let (mut meter, mut lateness) = (Meter::default(), Latencies::default());
        for round in rounds {
            meter.add(&round.meter);
            round.lateness.iter().for_each(|late| lateness.add(late));
        }
        let sum = |of: fn(&RoundOutcome) -> u64| rounds.iter().map(of).sum::<u64>();
        let tiers = self.tier_rows(rounds);
        let bytes: Vec<(String, Option<u64>)> =
            tiers.iter().map(|tier| (tier.name.clone(), tier.held_bytes)).collect();
        let seconds: f64 = rounds.iter().map(|round| round.elapsed.as_secs_f64()).sum();
        let hours = command.price_hours.unwrap_or(seconds / 3_600.0);
        let by_source =
            meter.by_source.iter().map(|(name, latencies)| (name.clone(), latencies.percentiles()));
        let row = Row {
            stack: self.spec.name.clone(),
            is_remote: self.is_remote(),
            near_entries: self.spec.near_entries(),
            arrival: match load {
                Load::Closed(callers) => Arrival::Closed(callers),
                Load::Open(rate) => Arrival::Open(rate),
            },
            rounds: rounds.iter().map(round_of).collect(),
            requests: meter.requests,
            reads: meter.reads,
            loaded: meter.loaded,
            loads: sum(|round| round.stats.loads),
            errors: meter.errors.clone(),
            latency_every: if matches!(load, Load::Open(_)) { 1 } else { self.latency_every(command) },
            latency: meter.all.percentiles(),
            by_source: by_source.collect::<BTreeMap<_, _>>(),
            lateness: matches!(load, Load::Open(_)).then(|| lateness.percentiles()),
            tiers,
            allocations: sum(|round| round.allocations) as f64 / meter.requests.max(1) as f64,
            slices: rounds.last().map(|round| round.slices.clone()).unwrap_or_default(),
            cost: Cost::of(&command.prices, sum(|round| round.stats.loads), &bytes, hours),
        };
        self.note(command, &row, rounds, notes);
        row
    }

    /// Says what would mislead a reader of the figures.
    fn note(&self, command: &RunCommand, row: &Row, rounds: &[RoundOutcome], notes: &mut Vec<String>) {
        let about = format!("{}, {}", self.spec.name, row.load());
        if rounds.iter().any(|round| round.starved > 0) {
            notes.push(format!(
                "{about}: callers waited for the workload to be read; the rate is that of reading."
            ));
        }
        let has_faults = !self.spec.private_tiers().is_empty();
        if has_faults && rounds.iter().any(|round| round.faults_made < command.faults.len()) {
            notes.push(format!(
                "{about}: the row ended before all faults were made; give it more time or requests."
            ));
        }
        if let Some(late) = row.lateness.filter(|late| late.p99 > 1_000.0) {
            notes.push(format!(
                "{about}: 1 % of the requests were sent {:.1} ms late or more.",
                late.p99 / 1e3
            ));
        }
    }

    fn tier_rows(&self, rounds: &[RoundOutcome]) -> Vec<TierRow> {
        let Some(last) = rounds.last() else { return Vec::new() };
        let row = |place: usize, name: &str| {
            let shown = if name == "near" { "memory" } else { name };
            let mut row = TierRow { name: shown.to_owned(), ..TierRow::default() };
            let mut latencies = Latencies::default();
            for round in rounds {
                let tier = &round.stats.tiers[place];
                row.hits += tier.hits;
                row.misses += tier.misses;
                row.fills += tier.fills;
                row.errors += tier.errors;
                if let Some((_, calls)) = round.calls.iter().find(|(called, _)| called == name) {
                    row.calls += calls.calls;
                    row.sent_bytes += calls.sent;
                    row.received_bytes += calls.received;
                    latencies.add(&calls.latencies);
                }
            }
            row.call_latency = latencies.percentiles();
            row.held_bytes = last.held.iter().find(|(tier, _)| tier == shown).map(|(_, bytes)| *bytes);
            row
        };
        last.stats.tiers.iter().enumerate().map(|(place, tier)| row(place, &tier.name)).collect()
    }
}

fn round_of(outcome: &RoundOutcome) -> Round {
    let (requests, seconds) = (outcome.meter.requests.max(1) as f64, outcome.elapsed.as_secs_f64());
    let latency = outcome.meter.all.percentiles();
    Round {
        seconds,
        per_second: requests / seconds.max(1e-9),
        cpu_nanos: outcome.cpu.as_nanos() as f64 / requests,
        p50: latency.p50,
        p99: latency.p99,
        hit_ratio: 1.0 - outcome.meter.loaded as f64 / outcome.meter.reads.max(1) as f64,
    }
}

fn progress_bar(command: &RunCommand, stack: &str, load: Load) -> ProgressBar {
    let bar = match command.expected_requests() {
        _ if command.quiet => ProgressBar::hidden(),
        Some(requests) => ProgressBar::new(requests),
        None => ProgressBar::new_spinner(),
    };
    let template = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let load = match load {
        Load::Closed(callers) => format!("{callers} callers"),
        Load::Open(rate) => format!("open {rate:.0}/s"),
    };
    bar.set_message(format!("{stack}, {load}"));
    bar
}
