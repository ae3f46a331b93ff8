//! The one place that reads time.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::Timestamp;

/// Tells the time to a cache: the host's clock, or one that a test turns by hand.
///
/// # Cost
/// On Linux the system clock is the kernel's coarse wall clock, about 10 ns. It is right at once
/// after a pause or a suspend of the process, and behind by at most [`Clock::granularity`] as long as
/// the host gives the kernel its ticks; near tiers take that off an entry's life. A step backwards by
/// `d` extends lives by at most `d`.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System { granularity: Duration },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The host's wall clock.
    pub fn system() -> Self {
        Self(Source::System { granularity: system_granularity() })
    }

    /// A clock that moves only when told to.
    pub fn manual() -> ManualClock {
        ManualClock(Arc::new(AtomicU64::new(1_700_000_000_000)))
    }

    /// The current time.
    #[inline]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => Timestamp::from_millis(system_millis()),
            Source::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Acquire)),
        }
    }

    /// The current time in microseconds since the Unix epoch, precise: for versions.
    pub fn micros(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX),
            Source::Manual(millis) => millis.load(Ordering::Acquire).saturating_mul(1000),
        }
    }

    /// By how much [`Clock::now`] may lag behind.
    pub fn granularity(&self) -> Duration {
        match &self.0 {
            Source::System { granularity } => *granularity,
            Source::Manual(_) => Duration::ZERO,
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System { .. } => "Clock::system",
            Source::Manual(_) => "Clock::manual",
        })
    }
}

/// The hand of a manual clock; clones and the [`Clock`]s made from it show the same time.
///
/// It turns deadlines alone. Budgets and pauses are measured on tokio's clock, which a test pauses
/// and moves by tokio's own means.
///
/// ```
/// use std::time::Duration;
/// use terrace_tier::{Cache, Clock};
/// use terrace_tier_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_tier::Result<()> {
/// let hand = Clock::manual();
/// let cache: Cache<u8, u8, Memory<u8, u8>> =
///     Cache::builder("tests").near(Memory::entries(10)).clock(&hand).build()?;
/// cache.put(&1, 1).await?;
/// hand.advance(Duration::from_secs(300));
/// assert!(cache.get(&1).await?.is_none(), "five minutes are the default life");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the time forward; less than a millisecond is no move.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::AcqRel);
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Acquire))
    }

    /// The clock to give to a cache.
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }
}

impl From<&ManualClock> for Clock {
    fn from(hand: &ManualClock) -> Self {
        hand.clock()
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(target_os = "linux")]
#[inline]
fn system_millis() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    time.tv_sec.cast_unsigned().wrapping_mul(1000).wrapping_add(time.tv_nsec.cast_unsigned() / 1_000_000)
}

/// A tick comes late where a hypervisor takes the processor away: twice the time between two was
/// measured on a busy host.
#[cfg(target_os = "linux")]
const LATE_TICKS: u64 = 4;

#[cfg(target_os = "linux")]
fn system_granularity() -> Duration {
    let resolution = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
    let nanos = u64::try_from(resolution.tv_nsec).unwrap_or_default();
    Duration::from_millis(LATE_TICKS * nanos.div_ceil(1_000_000))
}

#[cfg(not(target_os = "linux"))]
fn system_millis() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(not(target_os = "linux"))]
fn system_granularity() -> Duration {
    Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of many moments, since the host may withhold ticks in any one of them.
    #[test]
    fn the_coarse_clock_lags_by_less_than_its_granularity() {
        let clock = Clock::system();
        let mut lags: Vec<u64> = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(1));
            let before = clock.micros() / 1000;
            let now = clock.now().as_millis();
            assert!(now <= clock.micros() / 1000 + 1, "{now} is in the future");
            before.saturating_sub(now)
        })
        .take(100)
        .collect();
        lags.sort_unstable();
        assert!(u128::from(lags[50]) <= clock.granularity().as_millis(), "{lags:?}");
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let hand = Clock::manual();
        let clock = hand.clock();
        let before = clock.now();
        hand.advance(Duration::from_millis(5));
        assert_eq!(clock.now().since(before), Duration::from_millis(5));
    }
}
