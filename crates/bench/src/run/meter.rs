//! What the callers count.

use std::{collections::BTreeMap, time::Duration};

use terrace::{ErrorKind, Result, Source};

use super::latency::Latencies;

/// The counts of one caller, or of several together.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// The requests that were sent.
    pub(crate) requests: u64,
    /// Those of them that read.
    pub(crate) reads: u64,
    /// The reads that a loader answered.
    pub(crate) loaded: u64,
    /// The errors, by their kind.
    pub(crate) errors: BTreeMap<String, u64>,
    /// The latencies of requests, where they were measured.
    pub(crate) all: Latencies,
    /// The latencies of reads, by what answered them.
    pub(crate) by_source: BTreeMap<String, Latencies>,
}

impl Meter {
    /// Counts an answer.
    #[inline]
    pub(super) fn count(&mut self, answer: &Result<Option<Source>>) {
        self.requests += 1;
        match answer {
            Ok(Some(Source::Loader)) => {
                self.reads += 1;
                self.loaded += 1;
            }
            Ok(Some(_)) => self.reads += 1,
            Ok(None) => {}
            Err(error) => self.failed(error.kind()),
        }
    }

    #[cold]
    fn failed(&mut self, kind: ErrorKind) {
        *self.errors.entry(format!("{kind:?}")).or_default() += 1;
    }

    /// Notes how long an answer took.
    pub(super) fn took(&mut self, answer: &Result<Option<Source>>, latency: Duration) {
        self.all.record(latency);
        if let Ok(Some(source)) = answer {
            let name = match source {
                Source::Near => "memory",
                Source::Tier(name) | Source::Store(name) => name,
                _ => "loader",
            };
            match self.by_source.get_mut(name) {
                Some(latencies) => latencies.record(latency),
                None => self.by_source.entry(name.to_owned()).or_default().record(latency),
            }
        }
    }

    /// Adds the counts of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.reads += other.reads;
        self.loaded += other.loaded;
        self.all.add(&other.all);
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        for (name, latencies) in &other.by_source {
            self.by_source.entry(name.clone()).or_default().add(latencies);
        }
    }
}
