//! Stampede policies: which callers share a load.

use terrace_core::policy::Stampede;

use crate::suite::{Outcome, ensure_eq};

/// A cache asks its policy once, when it is built.
pub(super) fn the_answer_is_always_the_same(policy: &dyn Stampede) -> Outcome {
    let first = policy.coalesce();
    for _ in 0..8 {
        ensure_eq!(policy.coalesce(), first, "the answer must not change");
    }
    Ok(())
}
