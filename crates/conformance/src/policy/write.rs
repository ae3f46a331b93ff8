//! Write policies: where a put goes.

use terrace_core::policy::{Copies, WritePolicy};

use crate::suite::{Outcome, ensure, ensure_eq};

/// A cache asks its policy once, when it is built.
pub(super) fn the_plan_is_always_the_same(policy: &dyn WritePolicy) -> Outcome {
    let first = policy.plan();
    for _ in 0..8 {
        ensure_eq!(policy.plan(), first, "the plan must not change");
    }
    Ok(())
}

/// A put that skips the store and only drops copies would lose the value.
pub(super) fn the_plan_keeps_the_value_somewhere(policy: &dyn WritePolicy) -> Outcome {
    let plan = policy.plan();
    ensure!(
        plan.store || plan.copies == Copies::Replace,
        "the plan must keep the value of a put somewhere: {plan:?}"
    );
    Ok(())
}
