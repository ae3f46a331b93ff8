//! Clones of the current connection, kept for the next calls.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Connection;

const LANES: usize = 8;
/// Clones that one lane keeps. Calls beyond that clone the current connection.
const LANE_DEPTH: usize = 64;

/// Clones of the current connection, kept for the next calls. To clone a connection and to drop the
/// clone would move six counters between the cores for each call, so the threads of a lane reuse them.
#[derive(Default)]
pub(super) struct IdleClones {
    /// The number of the current connection; zero for none.
    current: AtomicU64,
    lanes: [Lane; LANES],
}

/// The clones for the threads of one lane. The alignment gives each lane its own cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Lane(Mutex<Vec<Connection>>);

static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LANE: usize = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % LANES;
}

impl IdleClones {
    /// Accepts clones of the connection with this number from now on.
    pub(super) fn open(&self, number: u64) {
        self.current.store(number, Ordering::Release);
    }

    /// Drops all clones and accepts none.
    pub(super) fn close(&self) {
        self.current.store(0, Ordering::Release);
        for lane in &self.lanes {
            let dropped = std::mem::take(&mut *lane.0.lock());
            drop(dropped);
        }
    }

    pub(super) fn take(&self) -> Option<Connection> {
        self.lane().0.lock().pop()
    }

    /// Compares the numbers under the lane's lock. So a clone is stored before `close` empties the
    /// lane, or not at all.
    pub(super) fn put_back(&self, connection: Connection) {
        let mut lane = self.lane().0.lock();
        if connection.number == self.current.load(Ordering::Acquire) && lane.len() < LANE_DEPTH {
            lane.push(connection);
        }
    }

    fn lane(&self) -> &Lane {
        &self.lanes[LANE.with(|lane| *lane)]
    }
}
