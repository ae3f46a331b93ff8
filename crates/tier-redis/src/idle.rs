//! Handles of the standing connection, kept for the next call.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::live::Live;

const LANES: usize = 8;
/// Handles that one lane keeps; more calls at once make their own.
const LANE_DEPTH: usize = 64;

/// A stock of handles, in lanes that threads do not share: to clone a handle and drop it again
/// would move six counters between the cores for every call.
pub(crate) struct Idle {
    /// The number of the connection that stands; zero while none does.
    current: AtomicU64,
    lanes: [Lane; LANES],
}

/// On cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Lane(Mutex<Vec<Live>>);

static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LANE: usize = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % LANES;
}

impl Idle {
    pub(crate) fn new() -> Self {
        Self { current: AtomicU64::new(0), lanes: Default::default() }
    }

    /// The connection of this number stands now.
    pub(crate) fn open(&self, number: u64) {
        self.current.store(number, Ordering::Release);
    }

    /// No connection stands: all handles are dropped, and none is taken back.
    pub(crate) fn close(&self) {
        self.current.store(0, Ordering::Release);
        for lane in &self.lanes {
            let dropped = std::mem::take(&mut *lane.0.lock());
            drop(dropped);
        }
    }

    pub(crate) fn take(&self) -> Option<Live> {
        self.lane().0.lock().pop()
    }

    /// Under the lane's lock, so that a handle comes back before `close` empties it or not at all.
    pub(crate) fn give(&self, live: Live) {
        let mut lane = self.lane().0.lock();
        if live.number == self.current.load(Ordering::Acquire) && lane.len() < LANE_DEPTH {
            lane.push(live);
        }
    }

    fn lane(&self) -> &Lane {
        &self.lanes[LANE.with(|lane| *lane)]
    }
}
