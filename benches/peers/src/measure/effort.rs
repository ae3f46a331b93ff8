//! How much is measured.

use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How many rounds a row has.
    pub rounds: usize,
    /// Whether turns and preparations are short.
    pub quick: bool,
}

impl Effort {
    /// The effort of a run whose figures count.
    pub const FULL: Self = Self { rounds: 15, quick: false };
    /// The effort of a run that shows whether a row works.
    pub const QUICK: Self = Self { rounds: 3, quick: true };

    /// How long a turn of many callers takes.
    #[must_use]
    pub fn turn(self) -> Duration {
        Duration::from_millis(if self.quick { 15 } else { 40 })
    }

    /// `full`, or a tenth of it in a quick run.
    #[must_use]
    pub fn scaled(self, full: usize) -> usize {
        if self.quick { (full / 10).max(1) } else { full }
    }
}
