//! Each defence on, and off.

use terrace_simulation::switches;

/// What came of one switch.
pub(crate) struct Switched {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
    /// No violation while it is on.
    pub(crate) holds: bool,
    /// A violation while it is off.
    pub(crate) caught: bool,
}

pub(crate) fn run() -> Vec<Switched> {
    let each = |switch: terrace_simulation::Switch| Switched {
        name: switch.name,
        rule: switch.rule,
        holds: switch.on().is_ok_and(|run| run.violations.is_empty()),
        caught: switch.off().is_ok_and(|run| !run.violations.is_empty()),
    };
    switches().into_iter().map(each).collect()
}
