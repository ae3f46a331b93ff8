//! Admission policies: which tier keeps which value.

use terrace_core::policy::{Admission, AdmitContext};

use crate::suite::{Outcome, ensure};

fn contexts() -> impl Iterator<Item = AdmitContext<'static>> {
    let sizes = [None, Some(0), Some(1), Some(1 << 10), Some(1 << 20), Some(usize::MAX)];
    let tiers = ["near", "redis", "postgres", "", "a tier with an unusual name"];
    let in_namespace = move |namespace| {
        tiers.into_iter().flat_map(move |tier| sizes.map(|size| AdmitContext::new(namespace, tier, size)))
    };
    ["users", ""].into_iter().flat_map(in_namespace)
}

pub(super) fn any_value_is_answered(policy: &dyn Admission) -> Outcome {
    for context in contexts() {
        let _any = policy.admits(&context);
    }
    Ok(())
}

/// A policy may count values and admit one only when it comes again. It must not refuse a value that it
/// has just admitted: readers would then fill that value for ever.
pub(super) fn what_was_admitted_is_admitted_again(policy: &dyn Admission) -> Outcome {
    for context in contexts() {
        let first = policy.admits(&context);
        ensure!(!first || policy.admits(&context), "admitted, then refused: {context:?}");
    }
    Ok(())
}
