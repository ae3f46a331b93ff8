//! Paired, interleaved measurements of terrace beside the raw clients and engines.
//!
//! Each row runs three sides in short turns, in an order that rotates: ours, raw, and raw again as the
//! control. The ratio of a row is the median of the ratios of its rounds. A disturbance of the machine
//! that lasts longer than a turn therefore disturbs all three sides, and the ratio of the control to raw
//! shows how much of a ratio is noise.

pub mod data;
pub mod database;
pub mod delivery;
pub mod failover;
pub mod levels;
pub mod load;
pub mod measure;
pub mod near;
pub mod near_levels;
pub mod near_mixed;
pub mod outbox;
pub mod remote;

/// The error of a row.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a row.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Whether the run is short: about a sixth of the rounds.
    pub quick: bool,
}

impl Effort {
    /// `rounds`, or fewer in a short run.
    #[must_use]
    pub fn rounds(self, rounds: usize) -> usize {
        if self.quick { (rounds / 6).max(5) } else { rounds }
    }
}
