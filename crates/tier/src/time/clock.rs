//! The one place that reads the time of day.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::Timestamp;

/// The clock of a cache: the host's clock, or a clock that a test sets by hand.
///
/// # Cost
/// On Linux the system clock is the kernel's coarse wall clock, which takes about 10 ns to read. It is right
/// at once after the process was paused or suspended. It is behind by at most [`Clock::granularity`] while
/// the host gives the kernel its ticks, and near tiers subtract that from an entry's life. A clock that is
/// set back by `d` extends lives by at most `d`.
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

    /// A clock that moves only when a test advances it.
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

    /// The current time in microseconds since the Unix epoch, without the lag of [`Clock::now`]. Versions
    /// are made of it.
    pub fn micros(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX),
            Source::Manual(millis) => millis.load(Ordering::Acquire).saturating_mul(1000),
        }
    }

    /// By how much [`Clock::now`] may be behind.
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

/// Sets a manual clock. Its clones, and the [`Clock`]s made from it, show the same time.
///
/// It changes deadlines alone. Budgets and pauses are measured on tokio's clock, which a test pauses and
/// advances with tokio's own functions.
///
/// ```
/// use std::time::Duration;
/// use terrace_tier::{Clock, Deadlines};
///
/// let manual = Clock::manual();
/// let clock = Clock::from(&manual);
/// let deadlines = Deadlines::ttl(clock.now(), Duration::from_secs(300));
/// manual.advance(Duration::from_secs(299));
/// assert!(!deadlines.is_expired(clock.now()));
/// manual.advance(Duration::from_secs(1));
/// assert!(deadlines.is_expired(clock.now()));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the time forward, in whole milliseconds.
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
    fn from(manual: &ManualClock) -> Self {
        manual.clock()
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

/// How many ticks the coarse clock may be behind. A tick comes late where a hypervisor takes the processor
/// away: on a busy host, twice the normal time between two ticks was measured.
#[cfg(target_os = "linux")]
const LATE_TICKS: u64 = 4;

/// It never changes, and asking for it is a system call.
#[cfg(target_os = "linux")]
static SYSTEM_GRANULARITY: std::sync::LazyLock<Duration> = std::sync::LazyLock::new(|| {
    let resolution = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
    let nanos = u64::try_from(resolution.tv_nsec).unwrap_or_default();
    Duration::from_millis(LATE_TICKS * nanos.div_ceil(1_000_000))
});

#[cfg(target_os = "linux")]
fn system_granularity() -> Duration {
    *SYSTEM_GRANULARITY
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

    /// Takes the median of many moments, since the host may withhold ticks in any one of them.
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
        let manual = Clock::manual();
        let clock = manual.clock();
        let before = clock.now();
        manual.advance(Duration::from_millis(5));
        assert_eq!(clock.now().since(before), Duration::from_millis(5));
    }
}
