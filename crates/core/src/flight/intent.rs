//! A flight, and what its callers board it for.

use std::sync::atomic::AtomicBool;

use super::stage::LoadStage;

/// Names one flight in its process, and says where its key is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlightId {
    pub(super) number: u64,
    pub(super) hash: u64,
}

/// One key's way through the tiers: a lookup that every reader may share, then a load that only
/// callers with a loader join.
pub(crate) struct Flight<L, T> {
    pub(crate) id: FlightId,
    pub(crate) lookup: L,
    pub(crate) load: LoadStage<T>,
    /// Off the table, for good: whoever leaves it has nothing to do there.
    pub(super) detached: AtomicBool,
}

/// What a caller boards a flight for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To read what the tiers have.
    Read,
    /// To load what they have not.
    Load,
    /// To load anew what they have only stale.
    Revalidate,
    /// To load anew, whatever they have.
    Refresh,
}

impl Intent {
    /// Whether it may go on to the load stage.
    pub(crate) fn loads(self) -> bool {
        self != Self::Read
    }

    /// Whether it is to replace what a tier has.
    pub(crate) fn renews(self) -> bool {
        matches!(self, Self::Revalidate | Self::Refresh)
    }
}

/// Which flight a caller gets where one of its key is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinMode {
    /// That one.
    Join,
    /// That one if its lookup is made for a load, else a new one in its place.
    JoinLoad,
    /// A new one beside it, off the table: what this one brings is kept nowhere.
    Separate,
    /// A new one in its place: what that one brings is kept nowhere.
    Replace,
}

impl JoinMode {
    /// Whether a caller joins a flight whose first one came for `leader`.
    pub(super) fn joins(self, leader: Intent) -> bool {
        self == Self::Join || (self == Self::JoinLoad && leader.loads())
    }
}
