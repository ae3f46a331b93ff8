//! Runs the interleaving of each switch with its defence, and without it.

use terrace_simulation::{Switch, switches};

/// The result of one switch.
pub(crate) struct Switched {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
    /// There is no violation with the defence.
    pub(crate) holds: bool,
    /// There is a violation without the defence.
    pub(crate) caught: bool,
}

pub(crate) fn run() -> Vec<Switched> {
    let each = |switch: Switch| Switched {
        name: switch.name,
        rule: switch.rule,
        holds: switch.on().is_ok_and(|run| run.violations.is_empty()),
        caught: switch.off().is_ok_and(|run| !run.violations.is_empty()),
    };
    switches().into_iter().map(each).collect()
}
