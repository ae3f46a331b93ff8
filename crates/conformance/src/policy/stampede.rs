//! The sharing of loads.

use terrace_core::policy::Stampede;

use crate::suite::{Outcome, ensure_eq};

/// It is asked once, when a cache is built.
pub(super) fn the_answer_is_always_the_same(policy: &dyn Stampede) -> Outcome {
    let first = policy.coalesce();
    for _ in 0..8 {
        ensure_eq!(policy.coalesce(), first, "who shares a load");
    }
    Ok(())
}
