//! The way of a put.

use terrace_core::policy::{Copies, WritePolicy};

use crate::suite::{Outcome, ensure, ensure_eq};

/// It is asked once, when a cache is built.
pub(super) fn the_plan_is_always_the_same(policy: &dyn WritePolicy) -> Outcome {
    let first = policy.plan();
    for _ in 0..8 {
        ensure_eq!(policy.plan(), first, "the plan");
    }
    Ok(())
}

/// Without a store, a put that only drops copies loses the value.
pub(super) fn the_plan_keeps_the_value_somewhere(policy: &dyn WritePolicy) -> Outcome {
    let plan = policy.plan();
    ensure!(plan.store || plan.copies == Copies::Replace, "a put would be kept nowhere: {plan:?}");
    Ok(())
}
