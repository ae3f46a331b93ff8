//! This folder decides what proves that a copy is fresh, and which proof a level of consistency accepts.

mod applied;
mod coherence;
mod follow;
mod mode;
mod proof;
mod watermark;

pub use applied::ExpectedChange;
pub(crate) use applied::{AppliedChange, AppliedChanges};
pub(crate) use coherence::{Coherence, max_staleness};
pub(crate) use mode::ReadMode;
pub(crate) use proof::{
    ANY_AGE, LEAST_BOUND, MaxStaleness, ProofSource, ReadBound, STORE_ONLY, UNCONFIRMED_TTL,
};
pub(crate) use watermark::WatermarkTracker;
