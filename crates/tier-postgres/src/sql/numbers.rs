//! Unsigned numbers in `bigint` columns, which store the same bits, so that they come back exact.

use std::time::Duration;

use terrace_tier::{Deadlines, Timestamp};

/// The same bits as a `bigint`.
pub(crate) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// The same bits as an unsigned number.
pub(crate) const fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}

/// A duration in milliseconds, or -1 if it never ends on the server's clock.
pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).ok().filter(|time| *time < i64::MAX / 2).unwrap_or(-1)
}

/// The four columns of `deadlines`.
pub(crate) fn columns(deadlines: Deadlines) -> [i64; 4] {
    [deadlines.written, deadlines.fresh_until, deadlines.stale_until, deadlines.expires_at]
        .map(|at| signed(at.as_millis()))
}

/// The milliseconds since 1970 of a `timestamptz`, which travels as microseconds since 2000.
pub(crate) fn clock_millis(micros: i64) -> u64 {
    const FROM_1970_TO_2000_MS: i64 = 946_684_800_000;
    micros.div_euclid(1000).saturating_add(FROM_1970_TO_2000_MS).try_into().unwrap_or(0)
}

/// The deadlines of four columns.
pub(crate) fn deadlines(columns: [i64; 4]) -> Deadlines {
    let [written, fresh_until, stale_until, expires_at] =
        columns.map(|millis| Timestamp::from_millis(unsigned(millis)));
    Deadlines { written, fresh_until, stale_until, expires_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_back_exact() {
        let never = Deadlines::forever(Timestamp::from_millis(u64::MAX - 1));
        assert_eq!(deadlines(columns(never)), never);
        assert_eq!(columns(never)[3], -1);
        let soon = Deadlines::ttl(Timestamp::from_millis(1_700_000_000_123), Duration::from_millis(7));
        assert_eq!(deadlines(columns(soon)), soon);
    }

    #[test]
    fn the_servers_clock_counts_from_1970() {
        assert_eq!(clock_millis(0), 946_684_800_000);
        assert_eq!(clock_millis(831_168_000_123_999), 1_777_852_800_123);
    }

    #[test]
    fn a_duration_beyond_the_servers_clock_never_ends() {
        assert_eq!(millis(Duration::from_millis(1500)), 1500);
        assert_eq!(millis(Duration::MAX), -1);
        assert_eq!(millis(Duration::from_millis(i64::MAX as u64)), -1);
    }
}
