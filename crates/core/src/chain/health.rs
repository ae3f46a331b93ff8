//! The health of a tier says whether the tier is lost. Single reads probe a lost tier, so that its
//! return is noticed.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Error, ErrorKind};

/// The number of timeouts in a row that make a tier lost. A server that cannot be reached is lost at
/// once.
const TIMEOUTS: u32 = 3;

/// How often a lost tier is probed.
const PROBE_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Health {
    lost: AtomicBool,
    /// The failures since the last answer. A lost tier has at least one failure. The count of failures
    /// changes only under the lock.
    failures: AtomicU32,
    next_probe: Mutex<Option<Instant>>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { lost: AtomicBool::new(false), failures: AtomicU32::new(0), next_probe: Mutex::new(None) }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether a read may use the tier. A tier that is not lost may be used always, and a lost tier by
    /// one read each 100 ms.
    pub(crate) fn permits_read(&self) -> bool {
        if !self.is_lost() {
            return true;
        }
        let now = Instant::now();
        let mut next_probe = self.next_probe.lock();
        let due = next_probe.is_none_or(|at| now >= at);
        if due {
            *next_probe = Some(now + PROBE_EVERY);
        }
        due
    }

    /// Notes an answer of the tier. The result is true if the tier was lost until now.
    pub(crate) fn answered(&self) -> bool {
        if self.failures.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut next_probe = self.next_probe.lock();
        self.failures.store(0, Ordering::Release);
        *next_probe = None;
        self.lost.swap(false, Ordering::AcqRel)
    }

    /// Notes a failed operation. The result is true if the failure makes the tier lost.
    pub(crate) fn failed(&self, error: &Error) -> bool {
        let weight = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Denied => TIMEOUTS,
            ErrorKind::Timeout | ErrorKind::Unknown => 1,
            // A server that refuses reads for any other reason serves no cache either. A refused write says
            // nothing about reads.
            ErrorKind::Backend | ErrorKind::Unsupported if error.operation().is_some_and(is_read) => 1,
            _ => return false,
        };
        let mut next_probe = self.next_probe.lock();
        let failures = self.failures.load(Ordering::Acquire).saturating_add(weight);
        self.failures.store(failures, Ordering::Release);
        if failures < TIMEOUTS {
            return false;
        }
        *next_probe = Some(Instant::now() + PROBE_EVERY);
        !self.lost.swap(true, Ordering::AcqRel)
    }
}

/// Whether an operation of a tier changes nothing.
pub(super) fn is_read(operation: &str) -> bool {
    matches!(operation, "get" | "lease" | "ping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_with_answers_between_them_lose_no_tier() {
        let (health, late) = (Health::new(), Error::timeout(Duration::ZERO));
        for _ in 0..10 {
            assert!(!health.failed(&late) && !health.failed(&late));
            assert!(!health.answered());
        }
        assert!(!health.is_lost());
    }

    #[test]
    fn a_server_that_refuses_every_read_is_lost_and_one_that_refuses_writes_is_not() {
        let refused = |operation| Error::new(ErrorKind::Backend, "CROSSSLOT").during(operation);
        let health = Health::new();
        assert!((0..10).all(|_| !health.failed(&refused("put"))));
        assert_eq!((0..5).filter(|_| health.failed(&refused("get"))).count(), 1);
    }

    #[test]
    fn a_tier_is_lost_once_and_back_once() {
        let (health, late) = (Health::new(), Error::timeout(Duration::ZERO));
        let reported = (0..5).filter(|_| health.failed(&late)).count();
        assert!(health.is_lost() && reported == 1);
        assert!(health.answered() && !health.answered());
        assert!(health.failed(&Error::new(ErrorKind::Unavailable, "refused")), "lost at once");
    }
}
