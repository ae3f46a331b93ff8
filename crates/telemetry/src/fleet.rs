//! The counters of all processes together, kept in a tier that they share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use terrace_core::{
    Cache, Clock, Error, ErrorKind, Item, NoNear, Result, Stats, TierSettings,
    policy::{Expiry, Lifetime, WriteContext},
};

use crate::Telemetry;

/// How often a process publishes its counters.
const EVERY: Duration = Duration::from_secs(10);

/// How long published counters live. A process that ended is counted until then.
const LIFE: Duration = Duration::from_secs(60);

/// The most processes of a fleet.
const MAX_INSTANCES: u16 = 256;

/// Publishes the counters of this process in a shared tier, and adds up those of all processes that do so under the
/// same name.
///
/// Each process owns one of 256 rows, and renews it every ten seconds. A row ends after a minute, so a process that
/// has ended is counted for so long; the sums then shrink.
///
/// ```
/// use terrace_telemetry::{Fleet, Telemetry};
/// # use terrace_conformance::Fake;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_core::Result<()> {
/// # let redis = Fake::named("redis");
/// let fleet = Fleet::new("orders", redis, Telemetry::new())?;
/// let publisher = tokio::spawn(fleet.clone().run());
/// # fleet.publish().await?;
/// let sums = fleet.stats_everywhere().await?;
/// assert_eq!(sums.instances, 1);
/// # publisher.abort();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Fleet {
    rows: Cache<u16, Row, NoNear>,
    telemetry: Telemetry,
    instance: u64,
    /// The row that this process owns, once it has one.
    own: Arc<Mutex<Option<u16>>>,
}

/// What one process publishes.
#[derive(Serialize, Deserialize)]
struct Row {
    instance: u64,
    caches: BTreeMap<String, CacheSums>,
}

/// The counters of all processes of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetSums {
    /// The number of processes.
    pub instances: usize,
    /// The counters of each cache by its name.
    pub caches: BTreeMap<String, CacheSums>,
}

/// The counters of one cache in all processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CacheSums {
    /// The reads of each tier by its name.
    pub tiers: BTreeMap<String, TierSums>,
    /// The number of loaders that were run.
    pub loads: u64,
    /// The number of loaders that failed or panicked.
    pub load_errors: u64,
    /// The number of values that were put.
    pub puts: u64,
    /// The number of keys and namespaces that were dropped.
    pub drops: u64,
    /// The number of answers that were stale entries.
    pub stale_served: u64,
    /// The number of callers that shared another caller's lookup or load.
    pub coalesced: u64,
}

/// The counters of one tier of a cache in all processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TierSums {
    /// The number of reads that the tier answered.
    pub hits: u64,
    /// The number of reads for which the tier had no fresh entry.
    pub misses: u64,
    /// The number of operations that failed.
    pub errors: u64,
}

/// The rows live for a minute.
struct RowLife;

impl Expiry for RowLife {
    fn lifetime(&self, _context: &WriteContext) -> Lifetime {
        Lifetime::fresh(LIFE)
    }
}

impl Fleet {
    /// A fleet of the processes that give the same name and a tier of the same server.
    ///
    /// # Errors
    /// The errors are those of [`Builder::build`](terrace_core::Builder::build).
    pub fn new(name: &str, tier: impl TierSettings, telemetry: Telemetry) -> Result<Self> {
        Self::with_clock(name, tier, telemetry, Clock::system())
    }

    fn with_clock(name: &str, tier: impl TierSettings, telemetry: Telemetry, clock: Clock) -> Result<Self> {
        let rows = Cache::builder(format!("terrace-fleet.{name}")).tier(tier).expire(RowLife);
        let (rows, instance) = (rows.clock(clock).build()?, fastrand::u64(..));
        Ok(Self { rows, telemetry, instance, own: Arc::default() })
    }

    /// Publishes the counters every ten seconds, for ever. A failure is logged at level DEBUG, and the next round
    /// publishes.
    pub async fn run(self) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.publish().await {
                tracing::debug!(cache = self.rows.namespace(), %error, "the counters were not published");
            }
        }
    }

    /// Publishes the counters of this process once.
    ///
    /// # Errors
    /// The call fails with the tier's error, and with [`ErrorKind::Busy`] where 256 processes publish under this
    /// name.
    ///
    /// # Cost
    /// The call makes two round trips; the first call of a process makes up to 512.
    pub async fn publish(&self) -> Result<()> {
        let own = *self.own.lock();
        if let Some(number) = own
            && self.renew(number).await?
        {
            return Ok(());
        }
        let first = fastrand::u16(..MAX_INSTANCES);
        for number in (0..MAX_INSTANCES).map(|step| (first + step) % MAX_INSTANCES) {
            if self.rows.put_item_if_absent(&number, Item::new(self.row())).await? {
                *self.own.lock() = Some(number);
                return Ok(());
            }
        }
        let message = format!("{MAX_INSTANCES} processes publish their counters under this name");
        Err(Error::new(ErrorKind::Busy, message).with_cure("give each part of the fleet a name of its own"))
    }

    /// Renews a row, if it still belongs to this process.
    async fn renew(&self, number: u16) -> Result<bool> {
        match self.rows.get(&number).await? {
            Some(row) if row.instance == self.instance => {
                self.rows.replace(&number, row.served().version, self.row()).await
            }
            _ => Ok(false),
        }
    }

    /// The counters of all processes that published within the last minute. Counters are at most ten seconds old,
    /// and exact once no process has counted for so long.
    ///
    /// # Errors
    /// The call fails with the tier's error.
    ///
    /// # Cost
    /// The call makes one round trip for 256 keys.
    pub async fn stats_everywhere(&self) -> Result<FleetSums> {
        let numbers: Vec<u16> = (0..MAX_INSTANCES).collect();
        let mut sums = FleetSums::default();
        for row in self.rows.get_many(&numbers).await.into_values()?.into_iter().flatten() {
            sums.instances += 1;
            for (name, cache) in &row.caches {
                sums.caches.entry(name.clone()).or_default().add(cache);
            }
        }
        Ok(sums)
    }

    fn row(&self) -> Row {
        let caches = self.telemetry.read().into_iter();
        let caches = caches.map(|(name, stats)| (name.to_string(), CacheSums::of(&stats))).collect();
        Row { instance: self.instance, caches }
    }
}

impl CacheSums {
    fn of(stats: &Stats) -> Self {
        let tier = |tier: &terrace_core::TierStats| {
            let sums = TierSums { hits: tier.hits, misses: tier.misses, errors: tier.errors };
            (tier.name.clone(), sums)
        };
        Self {
            tiers: stats.tiers.iter().map(tier).collect(),
            loads: stats.loads,
            load_errors: stats.load_errors,
            puts: stats.puts,
            drops: stats.drops,
            stale_served: stats.stale_served,
            coalesced: stats.coalesced,
        }
    }

    fn add(&mut self, other: &Self) {
        for (name, tier) in &other.tiers {
            let sums = self.tiers.entry(name.clone()).or_default();
            sums.hits += tier.hits;
            sums.misses += tier.misses;
            sums.errors += tier.errors;
        }
        self.loads += other.loads;
        self.load_errors += other.load_errors;
        self.puts += other.puts;
        self.drops += other.drops;
        self.stale_served += other.stale_served;
        self.coalesced += other.coalesced;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_conformance::Fake;

    fn fleet(shared: &Fake, clock: Clock) -> Fleet {
        Fleet::with_clock("orders", shared.clone(), Telemetry::new(), clock).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_ended_is_counted_for_a_minute() {
        let hand = Clock::manual();
        let shared = Fake::with_clock("redis", (&hand).into());
        let fleet = fleet(&shared, (&hand).into());
        fleet.publish().await.unwrap();
        hand.advance(Duration::from_secs(59));
        assert_eq!(fleet.stats_everywhere().await.unwrap().instances, 1);
        hand.advance(Duration::from_secs(1));
        assert_eq!(fleet.stats_everywhere().await.unwrap().instances, 0);
        fleet.publish().await.unwrap();
        assert_eq!(fleet.stats_everywhere().await.unwrap().instances, 1, "it takes another row");
    }

    #[tokio::test]
    async fn more_than_256_processes_are_refused_with_a_cure() {
        let shared = Fake::named("redis");
        for _ in 0..MAX_INSTANCES {
            fleet(&shared, Clock::system()).publish().await.unwrap();
        }
        let late = fleet(&shared, Clock::system());
        assert_eq!(late.publish().await.unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(late.stats_everywhere().await.unwrap().instances, usize::from(MAX_INSTANCES));
    }
}
