//! Points in time, and the deadlines that an entry carries.

mod clock;

pub use clock::{Clock, ManualClock};

use std::time::Duration;

/// A point in time: milliseconds since the Unix epoch, on the host's clock.
///
/// All hosts that share a tier are expected to synchronise their clocks, by NTP for example. Between hosts
/// whose clocks differ by `s`, deadlines are wrong by `s`. The server's own clock ends the entry in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point this many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The point `after` later, or [`Timestamp::NEVER`] if the sum does not fit.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        match u64::try_from(after.as_millis()) {
            Ok(millis) => Self(self.0.saturating_add(millis)),
            Err(_) => Self::NEVER,
        }
    }

    /// The time from `earlier` to this point, or zero if this point is the earlier one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// When an entry was written and how long it may be used. The write decides it once.
///
/// `written <= fresh_until <= stale_until <= expires_at`. Without a stale window the last three are equal.
/// The four are part of a cell's layout, so there will be no fifth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// When the value was loaded or put.
    pub written: Timestamp,
    /// Before this point a hit is fresh.
    pub fresh_until: Timestamp,
    /// Before this point the freshness policy may serve the entry, marked as stale.
    pub stale_until: Timestamp,
    /// From this point on the entry is gone.
    pub expires_at: Timestamp,
}

impl Deadlines {
    /// The deadlines of an entry that is fresh for ever.
    pub const fn forever(written: Timestamp) -> Self {
        Self {
            written,
            fresh_until: Timestamp::NEVER,
            stale_until: Timestamp::NEVER,
            expires_at: Timestamp::NEVER,
        }
    }

    /// The deadlines of an entry that is fresh for `ttl` and then gone.
    pub fn ttl(written: Timestamp, ttl: Duration) -> Self {
        let end = written.after(ttl);
        Self { written, fresh_until: end, stale_until: end, expires_at: end }
    }

    /// These deadlines, each of them at most `ttl` after `now`. The result is never later than before, so
    /// a promotion extends no life.
    #[must_use]
    pub fn capped(self, now: Timestamp, ttl: Duration) -> Self {
        let end = now.after(ttl);
        Self {
            written: self.written,
            fresh_until: self.fresh_until.min(end),
            stale_until: self.stale_until.min(end),
            expires_at: self.expires_at.min(end),
        }
    }

    /// Whether the entry is gone at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// The time that remains until the entry is gone.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        self.expires_at.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_that_overflows_never_ends() {
        let now = Timestamp::from_millis(5);
        assert_eq!(Deadlines::ttl(now, Duration::MAX), Deadlines::forever(now));
        assert!(Deadlines::ttl(now, Duration::ZERO).is_expired(now));
    }

    #[test]
    fn a_cap_shortens_and_never_extends() {
        let now = Timestamp::from_millis(100);
        let entry = Deadlines::ttl(Timestamp::from_millis(0), Duration::from_millis(150));
        assert_eq!(entry.capped(now, Duration::from_secs(9)), entry);
        assert_eq!(entry.capped(now, Duration::from_millis(10)).expires_at.as_millis(), 110);
    }
}
