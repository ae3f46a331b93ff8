//! The calls of a tier, counted by kind.

use std::sync::atomic::{AtomicU64, Ordering};

use terrace_tier::Op;

/// A kind of call to a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Op::Get`].
    Get,
    /// [`Op::Lease`].
    Lease,
    /// [`Op::Fill`].
    Fill,
    /// [`Op::Put`].
    Put,
    /// [`Op::Invalidate`].
    Invalidate,
    /// [`Op::Remove`].
    Remove,
    /// [`Op::Expire`].
    Expire,
    /// [`Tier::clear`](terrace_tier::Tier::clear).
    Clear,
    /// [`Tier::ping`](terrace_tier::Tier::ping).
    Ping,
    /// [`Publish::publish`](terrace_tier::Publish::publish).
    Publish,
}

impl Call {
    /// The kind of an operation.
    pub const fn of(op: &Op) -> Self {
        match op {
            Op::Get => Self::Get,
            Op::Lease { .. } => Self::Lease,
            Op::Fill { .. } => Self::Fill,
            Op::Put { .. } => Self::Put,
            Op::Invalidate { .. } => Self::Invalidate,
            Op::Remove { .. } => Self::Remove,
            // A tier refuses an unknown operation before it counts the call.
            Op::Expire { .. } | _ => Self::Expire,
        }
    }

    /// Whether the call only reads: after a lost answer, later reads show what they showed before.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Lease | Self::Ping)
    }
}

/// How often each kind of call was carried out. Each operation of a batch counts as one call, and the
/// whole batch as one trip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    by_kind: [u64; 10],
    trips: u64,
}

impl Calls {
    /// The number of calls of one kind.
    pub const fn of(&self, call: Call) -> u64 {
        self.by_kind[call as usize]
    }

    /// The number of calls of all kinds.
    pub fn total(&self) -> u64 {
        self.by_kind.iter().sum()
    }

    /// The number of trips: single operations, batches, clears, pings and publications.
    pub const fn trips(&self) -> u64 {
        self.trips
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    by_kind: [AtomicU64; 10],
    trips: AtomicU64,
}

impl Counters {
    pub(crate) fn add(&self, call: Call) {
        self.by_kind[call as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn trip(&self) {
        self.trips.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Calls {
        let mut by_kind = [0; 10];
        for (number, counter) in by_kind.iter_mut().zip(&self.by_kind) {
            *number = counter.load(Ordering::Relaxed);
        }
        Calls { by_kind, trips: self.trips.load(Ordering::Relaxed) }
    }
}
