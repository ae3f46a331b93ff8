//! A flight, and the intent with which a caller joins it.

use std::sync::atomic::AtomicBool;

use super::stage::LoadStage;

/// Identifies one flight in its process; the hash finds its key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlightId {
    pub(super) number: u64,
    pub(super) hash: u64,
}

/// The work on one key that concurrent callers share: a lookup for all readers, then a load for the
/// callers with a loader.
pub(crate) struct Flight<L, T> {
    pub(crate) id: FlightId,
    pub(crate) lookup: L,
    pub(crate) load: LoadStage<T>,
    /// The flight has left the table and does not come back: a ticket for it changes nothing there.
    pub(super) detached: AtomicBool,
}

/// Why a caller joins a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To read what the tiers have.
    Read,
    /// To load a value that the tiers do not have.
    Load,
    /// To replace a stale value, in the background.
    Revalidate,
    /// To replace whatever the tiers have.
    Refresh,
}

impl Intent {
    /// Whether the caller may go on to the load stage.
    pub(crate) fn loads(self) -> bool {
        self != Self::Read
    }

    /// Whether the caller replaces an entry that a tier has.
    pub(crate) fn renews(self) -> bool {
        matches!(self, Self::Revalidate | Self::Refresh)
    }
}

/// Which flight a caller gets where its key has one under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinMode {
    /// The one under way.
    Join,
    /// The one under way if its lookup was made for a load, else a new one in its place.
    JoinLoad,
    /// A new one that is not in the table. Near keeps nothing that it brings.
    Separate,
    /// A new one in its place. Near keeps nothing that the old one brings.
    Replace,
}

impl JoinMode {
    /// Whether a caller joins a flight that a caller with the intent `leader` began.
    pub(super) fn joins(self, leader: Intent) -> bool {
        self == Self::Join || (self == Self::JoinLoad && leader.loads())
    }
}
