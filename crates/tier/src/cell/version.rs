//! The numbers that order writes and fence fills.

use std::fmt;

/// The order of a key's writes, issued by the cache's authority: max(highest issued + 1, the
/// authority's clock in microseconds). Zero stands for 'never written'.
///
/// At most 2^53 - 1, the largest integer that a Redis script keeps exact; that lasts to year 2255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Never written.
    pub const NONE: Self = Self(0);
    /// The largest version that any tier issues or keeps.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// From its number; what is above [`Version::MAX`] is cut to it.
    pub const fn from_u64(number: u64) -> Self {
        if number > Self::MAX.0 { Self::MAX } else { Self(number) }
    }

    /// Its number.
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

/// The generation of a namespace in one tier. `clear` changes it, and an entry of another epoch is
/// dead. Equality only: a lost epoch comes back as a new random one, the safe direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// From its number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// A new random epoch.
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }
}

/// A fencing token: names one lease on one key of one tier. Zero is no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// No lease.
    pub const NONE: Self = Self(0);

    /// From its number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// A new random token.
    pub fn random() -> Self {
        Self(fastrand::u64(1..))
    }

    /// A new random token for a reader that is to load what it misses, and shows signs of life
    /// meanwhile: other processes may wait for it.
    pub fn of_loader() -> Self {
        Self(fastrand::u64(..) | 1)
    }

    /// A new random token for a reader that nobody is to wait for: it takes the lease to copy what
    /// it may find further away.
    pub fn of_reader() -> Self {
        Self(fastrand::u64(2..) & !1)
    }

    /// Whether the lease is one of [`of_loader`](Self::of_loader).
    pub const fn is_of_loader(self) -> bool {
        self.0 & 1 == 1
    }
}
