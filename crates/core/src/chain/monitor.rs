//! The monitor reports each event once to the counters, the program's log and the user's observer.

use std::sync::Arc;

use tracing::Span;

use super::health::is_read;
use crate::{Event, Observer, latency::LatencyCounter, stats::Counter};

/// The counters, log and observer of one cache.
pub(crate) struct Monitor {
    pub(crate) namespace: Arc<str>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Whether each hit and miss is logged.
    pub(crate) logs_reads: bool,
    /// Whether calls and loads make spans.
    spans: bool,
    pub(crate) loads: Counter,
    pub(crate) load_times: LatencyCounter,
    pub(crate) failed_load_times: LatencyCounter,
    pub(crate) load_errors: Counter,
    pub(crate) loads_refused: Counter,
    pub(crate) soft_timeouts: Counter,
    pub(crate) coalesced: Counter,
    pub(crate) waits: Counter,
    pub(crate) stale_served: Counter,
    pub(crate) puts: Counter,
    pub(crate) drops: Counter,
    pub(crate) fills_skipped: Counter,
    pub(crate) unencodable: Counter,
    pub(crate) front_openings: Counter,
    pub(crate) front_losses: Counter,
    pub(crate) writes_coalesced: Counter,
    pub(crate) flushes: Counter,
    pub(crate) writes_flushed: Counter,
    pub(crate) flush_micros: Counter,
    pub(crate) flush_retries: Counter,
    pub(crate) writes_gave_way: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) writes_blocked: Counter,
    pub(crate) blocked_micros: Counter,
}

/// The counters of one tier.
#[derive(Debug, Default)]
pub(crate) struct TierCounters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) fills: Counter,
    pub(crate) fills_refused: Counter,
    pub(crate) errors: Counter,
    pub(crate) read_errors: Counter,
    pub(crate) unproven: Counter,
    pub(crate) undecodable: Counter,
}

impl Monitor {
    pub(crate) fn new(
        namespace: &str,
        observer: Option<Arc<dyn Observer>>,
        logs_reads: bool,
        spans: bool,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            observer,
            logs_reads,
            spans,
            load_times: LatencyCounter::default(),
            failed_load_times: LatencyCounter::default(),
            loads: Counter::default(),
            load_errors: Counter::default(),
            loads_refused: Counter::default(),
            soft_timeouts: Counter::default(),
            coalesced: Counter::default(),
            waits: Counter::default(),
            stale_served: Counter::default(),
            puts: Counter::default(),
            drops: Counter::default(),
            fills_skipped: Counter::default(),
            unencodable: Counter::default(),
            front_openings: Counter::default(),
            front_losses: Counter::default(),
            writes_coalesced: Counter::default(),
            flushes: Counter::default(),
            writes_flushed: Counter::default(),
            flush_micros: Counter::default(),
            flush_retries: Counter::default(),
            writes_gave_way: Counter::default(),
            dead_letters: Counter::default(),
            writes_blocked: Counter::default(),
            blocked_micros: Counter::default(),
        }
    }

    /// Reports an event of the whole cache.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        match event {
            Event::StaleServed => self.stale_served.add(1),
            Event::Coalesced => self.coalesced.add(1),
            Event::LoadRefused => self.loads_refused.add(1),
            Event::SoftTimeout => self.soft_timeouts.add(1),
            Event::Waited { .. } => self.waits.add(1),
            Event::Put => self.puts.add(1),
            Event::Dropped => self.drops.add(1),
            Event::FillSkipped => self.fills_skipped.add(1),
            Event::Unencodable { .. } => self.unencodable.add(1),
            Event::FrontOpened => self.front_openings.add(1),
            Event::FrontLost { writes } => {
                self.front_losses.add(1);
                self.dead_letters.add(*writes as u64);
            }
            Event::WriteCoalesced => self.writes_coalesced.add(1),
            Event::Flushed { writes, elapsed } => {
                self.flushes.add(1);
                self.writes_flushed.add(*writes as u64);
                self.flush_micros.add(elapsed.as_micros() as u64);
            }
            Event::FlushFailed { .. } => self.flush_retries.add(1),
            Event::GaveWay => self.writes_gave_way.add(1),
            Event::DeadLetter { .. } => self.dead_letters.add(1),
            Event::BacklogFull { blocked, .. } => {
                self.writes_blocked.add(1);
                self.blocked_micros.add(blocked.as_micros() as u64);
            }
            Event::Loaded { ok, elapsed } => {
                let times = if *ok { &self.load_times } else { &self.failed_load_times };
                times.add(*elapsed);
                self.loads.add(1);
                self.load_errors.add(u64::from(!ok));
            }
            _ => {}
        }
        self.observe(event);
    }

    /// Reports an event of one tier.
    pub(crate) fn tell_tier(&self, counters: &TierCounters, event: &Event<'_>) {
        match event {
            Event::Hit { .. } => counters.hits.add(1),
            Event::Miss { .. } => counters.misses.add(1),
            Event::Filled { .. } => counters.fills.add(1),
            Event::FillRefused { .. } => counters.fills_refused.add(1),
            Event::Unproven { .. } => counters.unproven.add(1),
            Event::Failed { error, .. } => {
                counters.errors.add(1);
                counters.read_errors.add(u64::from(error.operation().is_some_and(is_read)));
            }
            Event::Undecodable { .. } => counters.undecodable.add(1),
            _ => {}
        }
        self.observe(event);
    }

    /// The span of one call of a tier, or `None` unless spans are switched on.
    pub(super) fn call_span(&self, tier: &str, operation: &str) -> Option<Span> {
        let span = || tracing::debug_span!("terrace_call", cache = %self.namespace, tier, operation);
        self.spans.then(span)
    }

    /// The span of one load, which is disabled unless spans are switched on.
    pub(crate) fn load_span(&self) -> Span {
        if !self.spans {
            return Span::none();
        }
        tracing::debug_span!("terrace_load", cache = %self.namespace)
    }

    #[inline]
    pub(crate) fn observe(&self, event: &Event<'_>) {
        if self.logs_reads {
            self.log_read(event);
        }
        if let Some(observer) = &self.observer {
            observer.observe(&self.namespace, event);
        }
    }

    #[cold]
    fn log_read(&self, event: &Event<'_>) {
        match event {
            Event::Hit { tier } => tracing::debug!(cache = %self.namespace, tier, "hit"),
            Event::Miss { tier } => tracing::debug!(cache = %self.namespace, tier, "miss"),
            _ => {}
        }
    }
}
