//! Whether a tier is lost, told once, and tried again now and then.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Error, ErrorKind};

/// Timeouts in a row that make a tier lost; a server that cannot be reached is lost at once.
const TIMEOUTS: u32 = 3;

/// How often a lost tier is tried.
const PROBE_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Health {
    lost: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    next_probe: Option<Instant>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { lost: AtomicBool::new(false), state: Mutex::new(State { failures: 0, next_probe: None }) }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether a read may be tried: always while the tier is there, else one a tenth of a second.
    pub(crate) fn permits_read(&self) -> bool {
        if !self.is_lost() {
            return true;
        }
        let now = Instant::now();
        let mut state = self.state.lock();
        let due = state.next_probe.is_none_or(|at| now >= at);
        if due {
            state.next_probe = Some(now + PROBE_EVERY);
        }
        due
    }

    /// An answer came; true if the tier was lost until now.
    pub(crate) fn answered(&self) -> bool {
        if !self.is_lost() {
            return false;
        }
        let mut state = self.state.lock();
        state.failures = 0;
        state.next_probe = None;
        self.lost.swap(false, Ordering::AcqRel)
    }

    /// An operation failed; true if that makes the tier lost.
    pub(crate) fn failed(&self, error: &Error) -> bool {
        let weight = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Denied => TIMEOUTS,
            ErrorKind::Timeout | ErrorKind::Unknown => 1,
            _ => return false,
        };
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(weight);
        if state.failures < TIMEOUTS {
            return false;
        }
        state.next_probe = Some(Instant::now() + PROBE_EVERY);
        !self.lost.swap(true, Ordering::AcqRel)
    }
}
