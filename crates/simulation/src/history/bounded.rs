//! Bounded staleness: no read gives a value that was superseded too long before the call.

use std::time::Duration;

use super::{History, Newness, Read, Truth, Violation, timeline::Timeline};

/// Checks every read that is not marked stale against `bound`, or against the bound that it asked for:
/// its answer was still true at some moment within the bound before its call, or later. Reads that asked
/// for less are left out.
///
/// ```
/// use std::time::Duration;
/// use terrace_simulation::history::{At, Change, From, History, Read, bounded};
///
/// let ms = |millis: u64| At(millis * 1_000_000);
/// let mut history = History::default();
/// history.changes.push(Change::exact(1, ms(0), Some(10)));
/// history.changes.push(Change::exact(1, ms(50), Some(11)));
/// history.reads.push(Read::plain(0, 1, (ms(200), ms(201)), Some(10), From::Near));
/// assert!(bounded(&history, Duration::from_millis(150)).is_empty());
/// assert_eq!(bounded(&history, Duration::from_millis(100)).len(), 1);
/// ```
pub fn bounded(history: &History, bound: Duration) -> Vec<Violation> {
    let timeline = Timeline::of(history);
    let nanos = |bound: Duration| u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    let bound_of = |read: &Read| match read.asked {
        Newness::Built => nanos(bound),
        Newness::Within(bound) => nanos(bound),
        Newness::Truth => 0,
        Newness::Life | Newness::Heard => u64::MAX,
    };
    let late = |read: &&Read| !read.is_excused() && is_older(history.truth, &timeline, read, bound_of(read));
    let tell = |read: &Read| Violation {
        at: read.call,
        key: read.key,
        what: format!(
            "process {} read {:?}, which was superseded more than {} ms before its call",
            read.process,
            read.value,
            bound_of(read) / 1_000_000
        ),
    };
    history.reads.iter().filter(late).map(tell).collect()
}

fn is_older(truth: Truth, timeline: &Timeline, read: &Read, bound: u64) -> bool {
    let number = match read.value {
        Some(value) => timeline.number(read.key, value, read.ret),
        // A cache may forget a value that its origin has.
        None if truth == Truth::Origin => None,
        None => Some(timeline.last_absence(read.key, read.ret)),
    };
    // Other checkers judge values that never were true.
    let Some(ended) = number.and_then(|number| timeline.ended(read.key, number)) else { return false };
    ended.0.saturating_add(bound) < read.call.0
}
