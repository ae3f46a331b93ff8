//! What a cache reports of itself: its counters, and a handle that reads them without keeping the cache alive.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{Cache, Inner, NEAR, classes::Classes};
use crate::{
    Event, Key, Stats, TierStats, Value,
    chain::{Chain, TierCounters, TierShared},
    near::{Entry, Near},
};

/// Reads the counters of one cache, whatever its types are. A source does not keep the cache alive.
///
/// ```
/// use terrace_core::Cache;
/// # use terrace_tier_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_core::Result<()> {
/// let squares = Cache::<u64, u64, Memory<u64, u64>>::builder("squares").near(Memory::entries(10)).build()?;
/// let source = squares.stats_source();
/// squares.put(&2, 4).await?;
/// assert_eq!(source.read().map(|stats| stats.puts), Some(1));
/// drop(squares);
/// assert_eq!(source.read(), None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StatsSource {
    namespace: Arc<str>,
    read: Arc<dyn Fn() -> Option<Stats> + Send + Sync>,
}

impl StatsSource {
    /// The name of the cache.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The counters of the cache, or `None` after its last handle was dropped.
    ///
    /// # Cost
    /// The cost is that of [`Cache::stats`].
    pub fn read(&self) -> Option<Stats> {
        (self.read)()
    }
}

impl fmt::Debug for StatsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsSource").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// The counters of what the cache has done since it was built.
    ///
    /// # Cost
    /// The call makes no round trip. It locks each shard of the flight table in turn.
    pub fn stats(&self) -> Stats {
        self.inner.stats(&shared_tiers(&self.chain))
    }

    /// A handle that reads the counters of this cache, for all its tenants together.
    pub fn stats_source(&self) -> StatsSource {
        let (inner, tiers) = (Arc::downgrade(&self.inner), shared_tiers(&self.chain));
        let read = move || inner.upgrade().map(|inner| inner.stats(&tiers));
        StatsSource { namespace: Arc::clone(&self.inner.monitor.namespace), read: Arc::new(read) }
    }
}

/// The parts of the remote tiers that all tenants share, from near to far.
fn shared_tiers(chain: &Chain) -> Vec<Arc<TierShared>> {
    chain.tiers.iter().chain(&chain.store).map(|slot| Arc::clone(&slot.shared)).collect()
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    fn stats(&self, shared: &[Arc<TierShared>]) -> Stats {
        let (near, monitor) = (self.near.size(), &self.monitor);
        let mut tiers = Vec::with_capacity(shared.len() + 1);
        if self.near.is_enabled() {
            tiers.push(tier_stats(NEAR, &self.near_counters));
        }
        tiers.extend(shared.iter().map(|shared| shared_stats(shared)));
        Stats {
            tiers,
            loads: monitor.loads.sum(),
            load_errors: monitor.load_errors.sum(),
            loads_refused: monitor.loads_refused.sum(),
            load_times: monitor.load_times.read(),
            failed_load_times: monitor.failed_load_times.read(),
            soft_timeouts: monitor.soft_timeouts.sum(),
            coalesced: monitor.coalesced.sum(),
            waits: monitor.waits.sum(),
            stale_served: monitor.stale_served.sum(),
            puts: monitor.puts.sum(),
            drops: monitor.drops.sum(),
            fills_skipped: monitor.fills_skipped.sum(),
            unencodable: monitor.unencodable.sum(),
            near_entries: near.entries,
            near_weight: near.weight,
            flights: self.flights.len(),
            loads_under_way: self.load_limit.under_way(),
            loads_waiting: self.load_limit.waiting(),
            keys_in_backoff: self.back_off.len(),
            front_openings: monitor.front_openings.sum(),
            front_losses: monitor.front_losses.sum(),
            writes_coalesced: monitor.writes_coalesced.sum(),
            flushes: monitor.flushes.sum(),
            writes_flushed: monitor.writes_flushed.sum(),
            flush_micros: monitor.flush_micros.sum(),
            flush_retries: monitor.flush_retries.sum(),
            writes_gave_way: monitor.writes_gave_way.sum(),
            dead_letters: monitor.dead_letters.sum(),
            writes_blocked: monitor.writes_blocked.sum(),
            blocked_micros: monitor.blocked_micros.sum(),
            log_age: self.coherence.log_age(self.clock.now()),
            log_gaps: self.coherence.gaps(),
            relay_age: self.relay.as_ref().and_then(|relay| relay.handle().age(Instant::now())),
            classes: self.classes.as_ref().map(Classes::stats).unwrap_or_default(),
        }
    }

    /// Reports a near hit to what is switched on beside the counter.
    #[cold]
    pub(super) fn observe_near_hit(&self, entry: &Entry<V>) {
        if let Some(classes) = &self.classes {
            classes.hit(entry.class());
        }
        self.monitor.observe(&Event::Hit { tier: NEAR });
    }
}

fn shared_stats(shared: &TierShared) -> TierStats {
    TierStats {
        role: Some(shared.role),
        lost: shared.health.is_lost(),
        pending_invalidations: shared.pending_invalidations(),
        reads: shared.times.reads.read(),
        writes: shared.times.writes.read(),
        failures: shared.times.failures.read(),
        ..tier_stats(shared.name, &shared.counters)
    }
}

fn tier_stats(name: &str, counters: &TierCounters) -> TierStats {
    TierStats {
        name: name.to_owned(),
        hits: counters.hits.sum(),
        misses: counters.misses.sum(),
        fills: counters.fills.sum(),
        fills_refused: counters.fills_refused.sum(),
        errors: counters.errors.sum(),
        read_errors: counters.read_errors.sum(),
        unproven: counters.unproven.sum(),
        undecodable: counters.undecodable.sum(),
        ..TierStats::default()
    }
}
