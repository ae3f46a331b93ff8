//! How the loads of one key are shared when many callers miss it at once.

use terrace_core::{Coalesce, Stampede};

/// One load a key in this process: the first caller's, for all. What a cache does unless told
/// otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SingleFlight;

impl Stampede for SingleFlight {
    fn coalesce(&self) -> Coalesce {
        Coalesce::Local
    }
}

/// Each caller loads for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unshared;

impl Stampede for Unshared {
    fn coalesce(&self) -> Coalesce {
        Coalesce::Nobody
    }
}
