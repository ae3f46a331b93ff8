//! Times to live.

use std::time::Duration;

use terrace_simulation::history::{Fact, Truth, lives};

use super::*;

#[test]
fn a_copy_is_served_for_its_life_from_the_last_time_it_was_obtained() {
    let mut history = two_values(Truth::Origin);
    let life = Duration::from_millis(30);
    history.reads.push(read(50, Some(10)));
    assert_eq!(lives(&history, life, Duration::ZERO).len(), 1, "nobody obtained it");
    history.facts.push((ms(20), Fact::Obtained { value: 10 }));
    assert!(lives(&history, life, Duration::ZERO).is_empty());
    history.reads.push(read(51, Some(10)));
    assert_eq!(lives(&history, life, Duration::ZERO).len(), 1);
    history.facts.push((ms(40), Fact::Extended { key: 1, until: ms(60) }));
    assert!(lives(&history, life, Duration::ZERO).is_empty());
}
