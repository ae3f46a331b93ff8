//! What is kept in which tier.

use terrace_core::policy::{Admission, AdmitContext};

use crate::suite::{Outcome, ensure};

fn keepings() -> impl Iterator<Item = AdmitContext<'static>> {
    let sizes = [None, Some(0), Some(1), Some(1 << 10), Some(1 << 20), Some(usize::MAX)];
    let tiers = ["near", "redis", "postgres", "", "a tier of a name that nobody has thought of"];
    let of = move |namespace| {
        tiers.into_iter().flat_map(move |tier| sizes.map(|size| AdmitContext::new(namespace, tier, size)))
    };
    ["users", ""].into_iter().flat_map(of)
}

pub(super) fn any_value_is_answered(policy: &dyn Admission) -> Outcome {
    for keeping in keepings() {
        let _any = policy.admits(&keeping);
    }
    Ok(())
}

/// A policy may count and let in what comes again. It may not turn away what it has just let in:
/// a reader would fill it for ever.
pub(super) fn what_was_admitted_is_admitted_again(policy: &dyn Admission) -> Outcome {
    for keeping in keepings() {
        let first = policy.admits(&keeping);
        ensure!(!first || policy.admits(&keeping), "admitted, then refused: {keeping:?}");
    }
    Ok(())
}
