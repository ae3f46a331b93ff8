//! A caller joins a flight with an intent.

use std::sync::atomic::AtomicBool;

use super::stage::LoadStage;

/// Identifies one flight in its process. The hash finds the flight's key in the table.
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
    /// Whether the flight has left the table. A detached flight does not come back, so its tickets
    /// change nothing in the table.
    pub(super) detached: AtomicBool,
}

/// Why a caller joins a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// The caller reads what the tiers have.
    Read,
    /// The caller loads a value that the tiers do not have.
    Load,
    /// The caller replaces a stale value, in the background.
    Revalidate,
    /// The caller replaces the values of all tiers.
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

/// Which flight a caller gets if its key already has a flight under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinMode {
    /// The caller joins the flight under way.
    Join,
    /// The caller joins the flight under way if its lookup was made for a load. If the lookup was made
    /// for plain reads, a new flight replaces the flight under way.
    JoinLoad,
    /// The caller gets a new flight that is not in the table. The near tier does not keep the value of a
    /// flight outside the table.
    Separate,
    /// A new flight replaces the flight under way. The near tier does not keep the value of the old
    /// flight.
    Replace,
}

impl JoinMode {
    /// Whether a caller joins a flight that a caller with the intent `leader` began.
    pub(super) fn joins(self, leader: Intent) -> bool {
        self == Self::Join || (self == Self::JoinLoad && leader.loads())
    }
}
