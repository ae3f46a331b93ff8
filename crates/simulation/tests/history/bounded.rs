//! Staleness within a bound.

use std::time::Duration;

use terrace_simulation::history::{Truth, bounded};

use super::*;

#[test]
fn staleness_is_counted_from_the_moment_of_the_next_change_to_the_call() {
    let mut history = two_values(Truth::Store);
    history.reads.push(read(150, Some(10)));
    assert!(bounded(&history, Duration::from_millis(50)).is_empty());
    assert_eq!(bounded(&history, Duration::from_millis(49)).len(), 1);
    history.reads[0].stale = true;
    assert!(bounded(&history, Duration::from_millis(49)).is_empty(), "it was marked");
}
