//! How long calls may take, and how often a key may be loaded.

use std::time::Duration;

use crate::{history::Violation, plan::Plan, recorder::Tally};

/// The deadline of a load where processes wait for each other: longer than the wait for a silent holder.
pub(crate) const LOAD: Duration = Duration::from_millis(2_500);

/// The deadline of a load where processes do not wait for each other.
pub(crate) const SHORT_LOAD: Duration = Duration::from_millis(300);

/// One lookup: the budgets of two tiers and of a store.
const LOOKUP: Duration = Duration::from_millis(250);

/// The creation of a record: the budget of a store.
const CREATION: Duration = Duration::from_millis(150);

/// The longest time of a call in which its process runs. It may wait for one deadline, look again after
/// each of three holders, and then load for another deadline. It does all of it twice where it shared a
/// flight that began too long before the call.
fn longest(plan: &Plan) -> Duration {
    let once = match plan.stack.waits() {
        true => LOOKUP * 4 + LOAD * 2 + CREATION,
        false => LOOKUP + SHORT_LOAD + CREATION,
    };
    plan.limits.call.unwrap_or(once * 2)
}

/// Checks that no call took too long and that no key was loaded too often.
pub(crate) fn limits(plan: &Plan, tally: &Tally) -> Vec<Violation> {
    let mut violations = Vec::new();
    if let Some((took, at, key)) = tally.longest.filter(|(took, ..)| *took > longest(plan)) {
        let what = format!("a call took {took:?}, and {:?} is the most", longest(plan));
        violations.push(Violation { at, key, what });
    }
    for &(at, key) in &tally.endless {
        violations.push(Violation { at, key, what: "a call has not returned".to_owned() });
    }
    let Some(most) = plan.limits.loads else { return violations };
    for (&key, &(loads, at)) in tally.loads.iter().filter(|(_, (loads, _))| *loads > most) {
        let what = format!("it was loaded {loads} times, and {most} are the most");
        violations.push(Violation { at, key, what });
    }
    violations
}
