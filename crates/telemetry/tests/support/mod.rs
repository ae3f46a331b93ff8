//! Caches over in-memory tiers, and the samples of a scrape.
#![allow(dead_code, reason = "each test file uses only a part of this module")]

use std::collections::BTreeMap;

use terrace_conformance::Fake;
use terrace_core::Cache;
use terrace_telemetry::Telemetry;
use terrace_tier_memory::Memory;

pub(crate) type Stack = Cache<u64, u64, Memory<u64, u64>>;

/// A cache with a near tier and two remote tiers.
pub(crate) fn stack(namespace: &str, redis: &Fake, postgres: &Fake) -> Stack {
    let builder = Cache::builder(namespace).near(Memory::entries(1_000));
    builder.tier(redis.clone()).store(postgres.clone()).build().unwrap()
}

/// The value of each time series of a scrape.
pub(crate) fn samples(telemetry: &Telemetry) -> BTreeMap<String, f64> {
    let text = telemetry.prometheus();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    let samples: BTreeMap<String, f64> = series.clone().map(sample).collect();
    assert_eq!(samples.len(), series.count(), "no series comes twice");
    samples
}

/// The sum of the time series of a metric that have this label.
pub(crate) fn sum(samples: &BTreeMap<String, f64>, metric: &str, label: &str) -> f64 {
    let prefix = format!("{metric}{{");
    let of_metric = samples.iter().filter(|(series, _)| series.starts_with(&prefix));
    of_metric.filter(|(series, _)| series.contains(label)).map(|(_, value)| value).sum()
}
