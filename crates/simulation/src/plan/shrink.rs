//! Shrinks a plan that fails to a small plan that fails too.

use super::Plan;

/// Returns the smallest part of `plan` that was found and for which `fails` returns true. The end is cut
/// off first, then faults and steps are left out by halves, quarters and so on, down to single ones.
///
/// Source: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE
/// Transactions on Software Engineering 28(2), 2002 (ddmin, complements only).
pub fn shrink(plan: &Plan, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    let mut cut = best.length / 2;
    while cut > 0 {
        let shorter = ended_at(&best, best.length - cut.min(best.length - 1));
        if fails(&shorter) {
            best = shorter;
            cut = cut.min(best.length / 2);
        } else {
            cut /= 2;
        }
    }
    loop {
        let before = (best.steps.len(), best.faults.len());
        best = without(best, &mut fails, |plan| &mut plan.faults);
        best = without(best, &mut fails, |plan| &mut plan.steps);
        if (best.steps.len(), best.faults.len()) == before {
            return best;
        }
    }
}

fn ended_at(plan: &Plan, length: u64) -> Plan {
    let mut plan = Plan { length, ..plan.clone() };
    plan.steps.retain(|step| step.at < length);
    plan.faults.retain(|fault| fault.at < length);
    plan
}

/// Leaves out as many parts as possible, chunk by chunk.
fn without<T: Clone>(
    mut best: Plan,
    fails: &mut impl FnMut(&Plan) -> bool,
    parts: fn(&mut Plan) -> &mut Vec<T>,
) -> Plan {
    let mut chunk = parts(&mut best).len().div_ceil(2);
    while chunk > 0 {
        let mut from = 0;
        while from < parts(&mut best).len() {
            let mut smaller = best.clone();
            let rest = parts(&mut smaller);
            rest.drain(from..(from + chunk).min(rest.len()));
            if fails(&smaller) {
                best = smaller;
            } else {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    best
}
