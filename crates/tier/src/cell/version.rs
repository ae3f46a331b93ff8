//! The numbers that order writes and fence fills.

use std::fmt;

/// The number that orders the writes of a key. The cache's authority issues it: the highest issued version
/// plus one, or the authority's clock in microseconds, whichever is greater. Zero means 'never written'.
///
/// It is at most 2^53 - 1, the largest integer that a Redis script represents exactly. As microseconds,
/// that is the year 2255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of a key that was never written.
    pub const NONE: Self = Self(0);
    /// The largest version that any tier issues or keeps.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The version of this number. A number above [`Version::MAX`] becomes [`Version::MAX`].
    pub const fn from_u64(number: u64) -> Self {
        if number > Self::MAX.0 { Self::MAX } else { Self(number) }
    }

    /// The version's number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The version that follows this one at `micros` of the authority's clock.
    #[must_use]
    pub fn next(self, micros: u64) -> Self {
        Self::from_u64(micros.max(self.0.saturating_add(1)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The generation of a namespace in one tier. `clear` changes it, and a cell of another epoch is dead.
/// Epochs have no order: a lost epoch is replaced by a new random one, which is safe, since it makes every
/// cell dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of this number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The epoch's number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// A new random epoch.
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }
}

/// A fencing token, which names one lease on one key of one tier. Zero is no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The token that names no lease.
    pub const NONE: Self = Self(0);

    /// The token of this number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The token's number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// A new random token.
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }

    /// A new random token for a reader that loads the value if it misses, and keeps its lease alive
    /// meanwhile. Other processes may wait for this lease. Such tokens are odd.
    pub fn of_loader() -> Self {
        Self(fastrand::u64(..) | 1)
    }

    /// A new random token for a reader that takes the lease only to copy what it may find in a farther
    /// tier. No process waits for this lease. Such tokens are even.
    pub fn of_reader() -> Self {
        Self(fastrand::u64(2..) & !1)
    }

    /// Whether the token comes from [`of_loader`](Self::of_loader), so that processes may wait for its lease.
    pub const fn is_of_loader(self) -> bool {
        self.0 & 1 == 1
    }
}
