//! Every defence is left out once, and a checker notices.
#![cfg(terrace_simulation)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use terrace_simulation::switches;

#[test]
fn every_defence_is_missed_where_it_is_switched_off() {
    let mut missing = Vec::new();
    for switch in switches() {
        let on = switch.on().unwrap();
        assert!(on.violations.is_empty(), "{} is on: {}", switch.name, on.violations[0]);
        if switch.off().unwrap().violations.is_empty() {
            missing.push(switch.name);
        }
    }
    assert!(missing.is_empty(), "no violation without: {missing:?}");
}
