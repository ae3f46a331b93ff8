//! What a scenario measures: the times of reads, how many reads the database served, and how many were old.

use std::time::Duration;

use crate::application::Application;

/// The times of many calls.
#[derive(Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The time within which this part of the calls ended, 0.5 for the median.
    pub(crate) fn within(&self, part: f64) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        times.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }
}

/// How many reads the instances have asked the database for.
pub(crate) fn database_reads(instances: &[Application]) -> u64 {
    let of = |instance: &Application| {
        instance.sessions.stats().tier("postgres").map_or(0, |tier| tier.hits + tier.misses)
    };
    instances.iter().map(of).sum()
}

/// Many requests, from several callers at once.
#[derive(Clone, Default)]
pub(crate) struct Load {
    pub(crate) reads: Times,
    pub(crate) requests: u32,
    pub(crate) elapsed: Duration,
    pub(crate) database_reads: u64,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        f64::from(self.requests) / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Reads that the database served, for each thousand requests.
    pub(crate) fn database_reads_per_thousand(&self) -> f64 {
        self.database_reads as f64 * 1_000.0 / f64::from(self.requests.max(1))
    }
}

/// What was measured on one stack.
pub(crate) struct Column {
    pub(crate) stack: &'static str,
    pub(crate) one: Load,
    pub(crate) several: Load,
    /// From the answer of a change on one instance until another instance reads it.
    pub(crate) delays: Times,
    pub(crate) many: Load,
    pub(crate) restart: Restart,
    pub(crate) balanced: Balanced,
}

#[derive(Default)]
pub(crate) struct Restart {
    pub(crate) sessions: u64,
    pub(crate) lost: u64,
    /// The first read of each session after the restart, and the second.
    pub(crate) first: Times,
    pub(crate) second: Times,
    pub(crate) database_reads: u64,
    /// Sessions that were lost with the data of Redis; `None` if Redis was not emptied.
    pub(crate) lost_with_redis: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Balanced {
    pub(crate) visits: u32,
    pub(crate) lost_visits: u32,
    /// Reads that were older than the visit that had been acknowledged before.
    pub(crate) old_reads: u32,
    pub(crate) retries: u32,
}
