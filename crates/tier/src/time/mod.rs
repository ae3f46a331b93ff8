//! Points in time and the deadlines that travel with an entry.

mod clock;

pub use clock::{Clock, ManualClock};

use std::time::Duration;

/// A point in time: milliseconds since the Unix epoch, on the host's clock.
///
/// All hosts that share a tier are expected to keep their clocks by NTP: a skew of `s` shifts what
/// they see of each other's deadlines by `s`; the server's own clock bounds the entry either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The point `after` later; what does not fit is [`Timestamp::NEVER`].
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        match u64::try_from(after.as_millis()) {
            Ok(millis) => Self(self.0.saturating_add(millis)),
            Err(_) => Self::NEVER,
        }
    }

    /// The time from `earlier` to this point; zero if it lies before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// When an entry was written and how long it may be used; decided once, at the write.
///
/// `written <= fresh_until <= stale_until <= expires_at`: fresh until the first, usable under the
/// freshness policy until the second, kept until the third. Without a stale window the three agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// When the value was loaded or put.
    pub written: Timestamp,
    /// Until here a hit is served without a question.
    pub fresh_until: Timestamp,
    /// Until here the freshness policy may serve it, marked stale.
    pub stale_until: Timestamp,
    /// From here on it is gone.
    pub expires_at: Timestamp,
}

impl Deadlines {
    /// Never fresh for less than for ever.
    pub const fn forever(written: Timestamp) -> Self {
        Self {
            written,
            fresh_until: Timestamp::NEVER,
            stale_until: Timestamp::NEVER,
            expires_at: Timestamp::NEVER,
        }
    }

    /// Fresh for `ttl`, then gone.
    pub fn ttl(written: Timestamp, ttl: Duration) -> Self {
        let end = written.after(ttl);
        Self { written, fresh_until: end, stale_until: end, expires_at: end }
    }

    /// These deadlines, none of them later than `ttl` from `now`: a promotion never extends a life.
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

    /// Whether the entry is gone at `now`. A clock that went back behind the write counts as gone.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// What remains until the entry is gone.
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
