//! What the history of a run is checked for.

use std::time::Duration;

use terrace_core::Level;

use crate::{
    history::{History, Linear, bounded, fenced, linear, lives},
    plan::Stack,
};

/// Clocks count in milliseconds, and an answer may be served in the millisecond in which its life ends.
pub(crate) const GRAIN: Duration = Duration::from_millis(2);

/// Checks everything that the level of a stack promises.
pub(crate) fn judge(stack: &Stack, history: &History) -> Linear {
    let mut violations = lives(history, stack.life + GRAIN, stack.stale);
    if stack.level != Level::Ttl {
        violations.extend(fenced(history));
    }
    if let Level::Bounded(bound) = stack.level {
        violations.extend(bounded(history, bound + GRAIN));
    }
    let mut judged = if stack.is_linear() { linear(history) } else { Linear::default() };
    judged.violations.extend(violations);
    judged
}
