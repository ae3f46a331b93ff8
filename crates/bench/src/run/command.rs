//! The options of `terrace-bench run`, and the report that it makes.

use std::{process::ExitCode, str::FromStr, time::Duration};

use super::{
    control::Control,
    cost::Price,
    fault::{Fault, FaultKind, duration},
    plan::StackRun,
    stack::StackOptions,
};
use crate::{
    analysis::{Analysis, AnalysisOptions},
    failure::{Failure, Result, refuse},
    report::{Files, Machine, Report, Verdict, table},
    workload::Workload,
};

/// Replays a workload over stacks, side by side
#[derive(Debug, clap::Args)]
pub(crate) struct RunCommand {
    #[command(flatten)]
    pub(super) workload: Workload,
    #[command(flatten)]
    stacks: StackOptions,
    /// The numbers of callers of the closed loop, one row each
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "CALLERS", help_heading = "Load")]
    pub(super) concurrency: Vec<usize>,
    /// The rate of an open loop, in requests a second or as a share of the stack's highest rate: 5000 or 80%
    #[arg(long, value_name = "RATE", help_heading = "Load")]
    pub(super) rate: Option<Rate>,
    /// Which loops run: open needs --rate
    #[arg(long, value_enum, default_value = "both", help_heading = "Load")]
    pub(super) arrival: ArrivalChoice,
    /// How many requests of an open loop may be under way
    #[arg(long, default_value_t = 65_536, value_name = "N", help_heading = "Load")]
    pub(super) in_flight: usize,
    /// Ends each row after this time
    #[arg(long, value_parser = duration, value_name = "TIME", help_heading = "Load")]
    pub(super) seconds: Option<Duration>,
    /// Requests at the begin of each row that are not measured
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Load")]
    pub(super) warm_up: u64,
    /// How often each row is measured; the stacks take turns
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Load")]
    rounds: usize,
    /// How long the origin takes to load a value
    #[arg(long, value_parser = duration, default_value = "0", value_name = "TIME", help_heading = "Load")]
    pub(super) origin_delay: Duration,
    /// Measures the latency of every N-th request: 1 with remote tiers or a slow origin, else 16, unless set
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(super) latency_every: Option<u32>,
    /// A fault of a tier whose server the run starts: SECOND:stop|kill:redis:FOR, SECOND:slow:redis:FOR:BY,
    /// SECOND:empty:redis. May be given several times
    #[arg(long = "fault", value_name = "FAULT", help_heading = "Load")]
    pub(super) faults: Vec<Fault>,
    #[command(flatten)]
    analysis: AnalysisOptions,
    /// Leaves the analysis of the workload out
    #[arg(long, help_heading = "Analysis")]
    no_analysis: bool,
    /// A price: load=0.00002 for one load, redis=0.02 for a GB of a tier in an hour. May be given several times
    #[arg(long = "price", value_name = "PRICE", help_heading = "Cost")]
    pub(super) prices: Vec<Price>,
    /// The hours that the bytes of the tiers are paid for; the measured time unless set
    #[arg(long, value_name = "HOURS", help_heading = "Cost")]
    pub(super) price_hours: Option<f64>,
    #[command(flatten)]
    files: Files,
    /// Shows no progress
    #[arg(long, short, help_heading = "Output")]
    pub(super) quiet: bool,
    /// Whether a generator makes requests until the time of a row is over.
    #[arg(skip)]
    is_endless: bool,
}

/// Which loops run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ArrivalChoice {
    /// The closed loop alone.
    Closed,
    /// The open loop alone.
    Open,
    /// The closed loop, and the open one where there is a rate.
    Both,
}

impl ArrivalChoice {
    pub(super) fn has_closed(self) -> bool {
        self != Self::Open
    }
}

/// The rate of an open loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// Requests in a second.
    PerSecond(f64),
    /// A share of the highest rate of the stack.
    Share(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (number, share) = text.strip_suffix('%').map_or((text, false), |number| (number, true));
        let number: f64 = number.parse().map_err(|error| format!("{text}: {error}"))?;
        match share {
            _ if number.is_nan() || number <= 0.0 || number > 1e9 => {
                Err("a rate is above 0, as 5000 or 80%".to_owned())
            }
            true => Ok(Self::Share(number / 100.0)),
            false => Ok(Self::PerSecond(number)),
        }
    }
}

impl RunCommand {
    /// Measures all rows, prints the table and writes the files.
    pub(crate) fn run(mut self) -> Result<ExitCode> {
        let control = Control::default();
        control.listen()?;
        self.is_endless = self.workload.is_endless(self.seconds);
        if self.is_endless {
            self.workload.requests = Some(u64::MAX);
        }
        let report = self.report(&control)?;
        println!("{}", table::of_report(&report));
        self.files.write(&report)?;
        Ok(if report.interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS })
    }

    fn report(&self, control: &Control) -> Result<Report> {
        let specs = self.check()?;
        let analysis = match self.no_analysis || self.is_endless {
            true => None,
            false => Some(Analysis::of(&self.workload, &self.analysis, false)?),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::new)?;
        let (stacks, failure, mut notes) = runtime.block_on(self.measure(specs, control))?;
        let rows: Vec<_> = stacks.iter().flat_map(|stack| stack.rows(self, &mut notes)).collect();
        // What was measured before a failure is not lost.
        if let Some(failure) = failure {
            if rows.is_empty() {
                return Err(failure);
            }
            notes.push(format!("The run ended early: {failure}"));
            eprintln!("terrace-bench: {failure}");
        }
        let interrupted = control.is_interrupted() || notes.iter().any(|note| note.contains("ended early"));
        let verdict = Verdict::of(&rows, analysis.as_ref());
        Ok(Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workload: self.workload.name(),
            interrupted,
            machine: Machine::this(),
            origin_ms: self.origin_delay.as_secs_f64() * 1e3,
            analysis,
            faults: self.faults.clone(),
            rows,
            verdict,
            notes,
        })
    }

    /// Refuses what cannot work before anything starts.
    fn check(&self) -> Result<Vec<super::stack::StackSpec>> {
        let specs = self.stacks.specs()?;
        if self.workload.is_standard_input() {
            refuse!("`run` reads the workload several times: give it a file, not standard input");
        }
        if self.arrival == ArrivalChoice::Open && self.rate.is_none() {
            refuse!("--arrival open needs --rate");
        }
        if self.concurrency.contains(&0) || self.rounds == 0 || self.in_flight == 0 {
            refuse!("--concurrency, --rounds and --in-flight are at least 1");
        }
        for fault in &self.faults {
            specs.iter().try_for_each(|spec| fault.check(spec))?;
            if !specs.iter().any(|spec| spec.tiers().contains(&fault.tier.as_str())) {
                refuse!("--fault {fault}: no stack has the tier {}", fault.tier);
            }
        }
        self.files.check()?;
        // A missing or wrong trace is found before servers start.
        self.workload.open()?.next()?;
        Ok(specs)
    }

    async fn measure(
        &self,
        specs: Vec<super::stack::StackSpec>,
        control: &Control,
    ) -> Result<(Vec<StackRun>, Option<Failure>, Vec<String>)> {
        let (mut stacks, mut notes) = (Vec::new(), Vec::new());
        for spec in specs {
            let mut stack = StackRun::start(spec, self).await?;
            if let Some(highest) = stack.add_open(self, control).await? {
                notes.push(format!(
                    "{}: the highest rate was {} requests a second.",
                    stack.spec.name,
                    table::thousands(highest.round() as u64)
                ));
            }
            stacks.push(stack);
        }
        for round in 0..self.rounds {
            // Each second round goes the other way, so that a drift of the machine favours nobody.
            let mut order: Vec<&mut StackRun> = stacks.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for stack in order {
                if let Err(failure) = stack.round(self, control).await {
                    return Ok((stacks, Some(failure), notes));
                }
            }
        }
        Ok((stacks, None, notes))
    }

    /// The tiers that a fault makes slow.
    pub(super) fn slowed_tiers(&self) -> Vec<&str> {
        let slow = self.faults.iter().filter(|fault| fault.kind == FaultKind::Slow);
        slow.map(|fault| fault.tier.as_str()).collect()
    }

    /// How many requests a row has, if that is known beforehand.
    pub(super) fn expected_requests(&self) -> Option<u64> {
        self.workload.requests.filter(|_| !self.is_endless)
    }
}
