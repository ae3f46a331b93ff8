//! The report as data. Its JSON is what `compare` reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::{
    analysis::Analysis,
    run::{Cost, Fault, Percentiles, Slice},
};

/// All that a run found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The version of the tool.
    pub(crate) version: String,
    /// The name of the workload.
    pub(crate) workload: String,
    /// Whether the run was ended before all rows were measured.
    pub(crate) interrupted: bool,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How long a load takes, in milliseconds.
    pub(crate) origin_ms: f64,
    /// What the workload says without a cache.
    pub(crate) analysis: Option<Analysis>,
    /// The faults that were made in each row.
    pub(crate) faults: Vec<Fault>,
    /// Each stack under each load.
    pub(crate) rows: Vec<Row>,
    /// Which stack, which capacity.
    pub(crate) verdict: Option<Verdict>,
    /// What a reader must know about the figures.
    pub(crate) notes: Vec<String>,
}

/// The machine of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The operating system and the architecture.
    pub(crate) system: String,
    /// The cores that the program may use.
    pub(crate) cores: usize,
}

impl Machine {
    /// This machine.
    pub(crate) fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH), cores }
    }
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrival {
    /// So many callers, each of which waits for its answer.
    Closed(usize),
    /// So many requests in a second, whether or not earlier ones were answered.
    Open(f64),
}

/// One stack under one load, over all rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The name of the stack.
    pub(crate) stack: String,
    /// Whether the stack has remote tiers.
    pub(crate) is_remote: bool,
    /// The entries of the near tier.
    pub(crate) near_entries: u64,
    /// How requests arrive.
    pub(crate) arrival: Arrival,
    /// What each round found, for `compare`.
    pub(crate) rounds: Vec<Round>,
    /// Requests, of which so many read, and so many were answered by a loader.
    pub(crate) requests: u64,
    pub(crate) reads: u64,
    pub(crate) loaded: u64,
    /// Loaders that ran.
    pub(crate) loads: u64,
    /// Errors by their kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Every how many requests the latency was measured.
    pub(crate) latency_every: u32,
    /// Latencies of all measured requests, in microseconds.
    pub(crate) latency: Percentiles,
    /// The same by what answered the read.
    pub(crate) by_source: BTreeMap<String, Percentiles>,
    /// How late the open loop sent its requests.
    pub(crate) lateness: Option<Percentiles>,
    /// The tiers from near to far.
    pub(crate) tiers: Vec<TierRow>,
    /// Allocations for each request, in this process.
    pub(crate) allocations: f64,
    /// What happened over the time of the last round.
    pub(crate) slices: Vec<Slice>,
    /// The costs, if prices were given.
    pub(crate) cost: Option<Cost>,
}

impl Row {
    /// The share of reads that a tier answered, from 0 to 1.
    pub(crate) fn hit_ratio(&self) -> f64 {
        1.0 - self.loaded as f64 / self.reads.max(1) as f64
    }

    /// The requests in a second: the median of the rounds.
    pub(crate) fn per_second(&self) -> f64 {
        let mut rates: Vec<f64> = self.rounds.iter().map(|round| round.per_second).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    }

    /// The load as people read it.
    pub(crate) fn load(&self) -> String {
        match self.arrival {
            Arrival::Closed(1) => "1 caller".to_owned(),
            Arrival::Closed(callers) => format!("{callers} callers"),
            Arrival::Open(rate) => format!("open, {}/s", super::table::thousands(rate.round() as u64)),
        }
    }
}

/// One round of a row.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    /// How long it took.
    pub(crate) seconds: f64,
    /// Requests in a second.
    pub(crate) per_second: f64,
    /// The time of the processor for each request, in nanoseconds, on all threads of the process.
    pub(crate) cpu_nanos: f64,
    /// The median latency in microseconds.
    pub(crate) p50: f64,
    /// The latency that 99 % do not exceed, in microseconds.
    pub(crate) p99: f64,
    /// The share of reads that a tier answered.
    pub(crate) hit_ratio: f64,
}

/// One tier of a row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TierRow {
    /// The name.
    pub(crate) name: String,
    /// The reads that it answered.
    pub(crate) hits: u64,
    /// The reads that it was asked for and did not answer.
    pub(crate) misses: u64,
    /// The copies that it took.
    pub(crate) fills: u64,
    /// The operations that failed.
    pub(crate) errors: u64,
    /// The calls, each of which is a round trip that concurrent calls may share. The near tier has none.
    pub(crate) calls: u64,
    /// The bytes of values that were sent to it.
    pub(crate) sent_bytes: u64,
    /// The bytes of values that it gave.
    pub(crate) received_bytes: u64,
    /// How long its calls took, in microseconds.
    pub(crate) call_latency: Percentiles,
    /// The bytes that its data take, where that is known. Of the near tier it is the growth of the process's heap
    /// while it was filled.
    pub(crate) held_bytes: Option<u64>,
}
