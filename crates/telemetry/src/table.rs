//! The metrics of a cache: their names, kinds and labels, and how each is read from the counters.

use terrace_core::{Latencies, Stats, TierStats};

/// One metric. Every time series of it has the label `cache`, and the labels of its family.
#[derive(Debug)]
#[non_exhaustive]
pub struct Metric {
    /// The name of the metric, with its unit.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The names of its labels beside `cache`.
    pub labels: &'static [&'static str],
    pub(crate) read: fn(&Stats, &mut Emit<'_>),
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that grows and shrinks.
    Gauge,
    /// Counts by time, with the bounds [`LATENCY_BOUNDS`](terrace_core::LATENCY_BOUNDS).
    Histogram,
}

/// The value of one time series.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    Count(u64),
    Number(f64),
    Times(Latencies),
}

/// Receives the label values and the reading of each time series of a metric.
pub(crate) type Emit<'e> = dyn FnMut(&[&str], Reading) + 'e;

/// The metrics of each cache, in the order in which they are written.
///
/// A cache with a near tier and two remote tiers has at most 150 time series, and two more for each class of
/// `Builder::class_by`.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "terrace_reads_total",
        help: "Reads that asked the tier, by what it had.",
        kind: Kind::Counter,
        labels: &["tier", "outcome"],
        read: reads,
    },
    Metric {
        name: "terrace_class_reads_total",
        help: "Reads by class of key; a hit is a value from a tier.",
        kind: Kind::Counter,
        labels: &["class", "outcome"],
        read: class_reads,
    },
    Metric {
        name: "terrace_fills_total",
        help: "Copies that were sent to the tier, by whether it took them.",
        kind: Kind::Counter,
        labels: &["tier", "outcome"],
        read: fills,
    },
    Metric {
        name: "terrace_fills_skipped_total",
        help: "Fills that were not sent because too many were under way.",
        kind: Kind::Counter,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.fills_skipped)),
    },
    Metric {
        name: "terrace_writes_total",
        help: "Values put, and keys and namespaces dropped.",
        kind: Kind::Counter,
        labels: &["operation"],
        read: |stats, emit| {
            emit(&["put"], Reading::Count(stats.puts));
            emit(&["drop"], Reading::Count(stats.drops));
        },
    },
    Metric {
        name: "terrace_loads_total",
        help: "Loads, by how they ended; a refused load did not start.",
        kind: Kind::Counter,
        labels: &["outcome"],
        read: |stats, emit| {
            emit(&["ok"], Reading::Count(stats.loads.saturating_sub(stats.load_errors)));
            emit(&["error"], Reading::Count(stats.load_errors));
            emit(&["refused"], Reading::Count(stats.loads_refused));
        },
    },
    Metric {
        name: "terrace_load_duration_seconds",
        help: "How long loaders ran.",
        kind: Kind::Histogram,
        labels: &["outcome"],
        read: |stats, emit| {
            emit(&["ok"], Reading::Times(stats.load_times));
            emit(&["error"], Reading::Times(stats.failed_load_times));
        },
    },
    Metric {
        name: "terrace_load_seconds_saved",
        help: "Reads that tiers answered, times the mean time of a load.",
        kind: Kind::Gauge,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Number(load_seconds_saved(stats))),
    },
    Metric {
        name: "terrace_coalesced_total",
        help: "Callers that shared the lookup or load of another caller.",
        kind: Kind::Counter,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.coalesced)),
    },
    Metric {
        name: "terrace_waits_total",
        help: "Loads that waited for a load of another process.",
        kind: Kind::Counter,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.waits)),
    },
    Metric {
        name: "terrace_stale_served_total",
        help: "Answers past their fresh time.",
        kind: Kind::Counter,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.stale_served)),
    },
    Metric {
        name: "terrace_soft_timeouts_total",
        help: "Stale answers because a load took longer than the soft timeout.",
        kind: Kind::Counter,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.soft_timeouts)),
    },
    Metric {
        name: "terrace_unencodable_total",
        help: "Loaded values that no shared tier keeps because they cannot be encoded.",
        kind: Kind::Counter,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.unencodable)),
    },
    Metric {
        name: "terrace_call_duration_seconds",
        help: "How long calls of a remote tier took; a batch is one call.",
        kind: Kind::Histogram,
        labels: &["tier", "outcome"],
        read: calls,
    },
    Metric {
        name: "terrace_tier_up",
        help: "Whether the tier is used: 0 while it is lost.",
        kind: Kind::Gauge,
        labels: &["tier"],
        read: |stats, emit| {
            remote(stats).for_each(|tier| emit(&[&tier.name], Reading::Count(u64::from(!tier.lost))));
        },
    },
    Metric {
        name: "terrace_pending_invalidations",
        help: "Keys and clears that the tier has not confirmed.",
        kind: Kind::Gauge,
        labels: &["tier"],
        read: |stats, emit| {
            remote(stats).for_each(|tier| emit(&[&tier.name], Reading::Count(tier.pending_invalidations)));
        },
    },
    Metric {
        name: "terrace_log_age_seconds",
        help: "Time since the log that covers near copies was heard, where it is followed.",
        kind: Kind::Gauge,
        labels: &[],
        read: |stats, emit| {
            stats.log_age.into_iter().for_each(|age| emit(&[], Reading::Number(age.as_secs_f64())));
        },
    },
    Metric {
        name: "terrace_log_gaps_total",
        help: "Gaps of the log, after which near copies were dropped.",
        kind: Kind::Counter,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.log_gaps)),
    },
    Metric {
        name: "terrace_relay_lag_seconds",
        help: "Time since the relay of this process carried all changes, where it leads.",
        kind: Kind::Gauge,
        labels: &[],
        read: |stats, emit| {
            stats.relay_age.into_iter().for_each(|age| emit(&[], Reading::Number(age.as_secs_f64())));
        },
    },
    Metric {
        name: "terrace_near_entries",
        help: "Entries of the near tier.",
        kind: Kind::Gauge,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.near_entries)),
    },
    Metric {
        name: "terrace_near_weight",
        help: "Weight of the near tier in the unit of its engine: entries or bytes.",
        kind: Kind::Gauge,
        labels: &[],
        read: |stats, emit| emit(&[], Reading::Count(stats.near_weight)),
    },
    Metric {
        name: "terrace_queue_depth",
        help: "Work under way: keys with a flight, loads running, loads waiting, keys in back-off.",
        kind: Kind::Gauge,
        labels: &["queue"],
        read: |stats, emit| {
            emit(&["flights"], Reading::Count(stats.flights as u64));
            emit(&["loads"], Reading::Count(stats.loads_under_way as u64));
            emit(&["waiting"], Reading::Count(stats.loads_waiting as u64));
            emit(&["backoff"], Reading::Count(stats.keys_in_backoff as u64));
        },
    },
];

fn remote(stats: &Stats) -> impl Iterator<Item = &TierStats> {
    stats.tiers.iter().filter(|tier| tier.role.is_some())
}

/// The outcomes of one tier add up to the reads that asked it.
fn reads(stats: &Stats, emit: &mut Emit<'_>) {
    for tier in &stats.tiers {
        let name = &*tier.name;
        let is_store = tier.role.is_some_and(|role| role == terrace_tier::Role::Store);
        // In a store, a record whose bytes cannot be read counts as a hit, too: it is there. In a cache tier it
        // counts as a miss, too.
        let in_hits = if is_store { tier.undecodable.min(tier.hits) } else { 0 };
        let in_misses = tier.unproven + tier.undecodable - in_hits;
        emit(&[name, "hit"], Reading::Count(tier.hits - in_hits));
        emit(&[name, "miss"], Reading::Count(tier.misses.saturating_sub(in_misses)));
        emit(&[name, "unproven"], Reading::Count(tier.unproven));
        if tier.role.is_some() {
            emit(&[name, "undecodable"], Reading::Count(tier.undecodable));
            emit(&[name, "error"], Reading::Count(tier.read_errors));
        }
    }
}

fn class_reads(stats: &Stats, emit: &mut Emit<'_>) {
    for class in &stats.classes {
        emit(&[&class.name, "hit"], Reading::Count(class.hits));
        emit(&[&class.name, "miss"], Reading::Count(class.misses));
    }
}

fn fills(stats: &Stats, emit: &mut Emit<'_>) {
    for tier in &stats.tiers {
        emit(&[&tier.name, "kept"], Reading::Count(tier.fills));
        emit(&[&tier.name, "refused"], Reading::Count(tier.fills_refused));
    }
}

fn calls(stats: &Stats, emit: &mut Emit<'_>) {
    for tier in remote(stats) {
        emit(&[&tier.name, "read"], Reading::Times(tier.reads));
        emit(&[&tier.name, "written"], Reading::Times(tier.writes));
        emit(&[&tier.name, "failed"], Reading::Times(tier.failures));
    }
}

fn load_seconds_saved(stats: &Stats) -> f64 {
    let hits: u64 = stats.tiers.iter().map(|tier| tier.hits).sum();
    stats.load_times.mean().map_or(0.0, |mean| mean.as_secs_f64() * hits as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_gives_a_value_for_each_label() {
        let mut stats = Stats::default();
        for (name, role) in [("near", None), ("redis", Some(terrace_tier::Role::Cache))] {
            let mut tier = TierStats::default();
            (tier.name, tier.role) = (name.to_owned(), role);
            stats.tiers.push(tier);
        }
        (stats.log_age, stats.relay_age) = (Some(Default::default()), Some(Default::default()));
        stats.classes.push(Default::default());
        for (at, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..at].iter().all(|earlier| earlier.name != metric.name), "{}", metric.name);
            let mut series = 0;
            (metric.read)(&stats, &mut |values, reading| {
                assert_eq!(values.len(), metric.labels.len(), "{}", metric.name);
                let is_histogram = matches!(reading, Reading::Times(_));
                assert_eq!(is_histogram, metric.kind == Kind::Histogram, "{}", metric.name);
                series += 1;
            });
            assert!(series > 0, "{} has no series", metric.name);
        }
    }
}
