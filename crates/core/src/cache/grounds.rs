//! What proves a copy at level `Bounded`.

use std::{sync::Arc, time::Duration};

use super::marks::WatermarkTracker;

/// The least bound of level `Bounded`: below, the steps by which a copy is proven take longer.
pub(crate) const LEAST_BOUND: Duration = Duration::from_millis(100);

/// What proves to a cache of level `Bounded` that a copy was as new as the truth.
pub(crate) enum ProofSource {
    /// The cache is of another level: nothing is to be proven.
    None,
    /// The moment of its reading alone: no log tells of the truth.
    ReadTime,
    /// The truth's own log, which near follows. There are no shared copies.
    Log,
    /// The marks of a relay.
    Watermarks(Arc<WatermarkTracker>),
    /// The moment at which its load or put began: no copy lives longer than the bound.
    Age,
}
