//! Paired, interleaved measurements of terrace beside the raw clients and engines.
//!
//! Each row runs ours, raw and raw again (the control) in short turns, in an order that rotates;
//! its ratio is the median of the rounds' ratios. So what disturbs the machine for longer than a
//! turn disturbs all three, and the control says how much of a ratio is noise.

pub mod callers;
pub mod data;
pub mod database;
pub mod delivery;
pub mod latency;
pub mod levels;
pub mod load;
pub mod near;
pub mod near_levels;
pub mod outbox;
pub mod remote;
pub mod report;
pub mod row;
pub mod threads;

/// What a row may fail with.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A row's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// A short run: about a fifth of the rounds.
    pub quick: bool,
}

impl Effort {
    /// This many rounds, fewer in a short run.
    #[must_use]
    pub fn rounds(self, rounds: usize) -> usize {
        if self.quick { (rounds / 6).max(5) } else { rounds }
    }
}
