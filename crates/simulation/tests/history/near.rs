//! Near lags no longer than its log allows.

use std::time::Duration;

use terrace_simulation::history::{End, Fact, From, History, Read, Truth, Wish, fenced};

use super::*;

/// The change at 100 ms was confirmed everywhere by 110 ms; near of process 2 follows a log.
fn followed() -> History {
    let mut history = two_values(Truth::Origin);
    history.distrust = Some(Duration::from_secs(1));
    history.writes.push(write(101, 110, Wish::Invalidate, End::Done));
    history.facts.push(confirmed(105, 0, 1));
    history
}

#[test]
fn near_lags_no_longer_than_it_may_trust_its_log() {
    let mut history = followed();
    history.reads.push(Read { process: 2, ..read(1_110, Some(10)) });
    assert!(fenced(&history).is_empty());
    history.reads.push(Read { process: 2, ..read(1_113, Some(10)) });
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn near_lags_no_longer_than_its_log_has_not_been_heard() {
    let heard = |at: u64| (ms(at), Fact::Followed { process: 2, until: ms(at - 1) });
    let old = |at| Read { process: 2, ..read(at, Some(10)) };
    let mut history = followed();
    history.changes[1].at = ms(3_000);
    history.writes[0] = write(3_001, 3_010, Wish::Invalidate, End::Done);
    history.facts = vec![heard(1_000), heard(1_900), heard(2_800), confirmed(3_005, 0, 1), heard(3_050)];
    history.reads = vec![old(3_040)];
    assert!(fenced(&history).is_empty());
    history.reads.push(old(3_060));
    assert_eq!(fenced(&history).len(), 1);
    history.facts.insert(3, (ms(2_900), Fact::Gap { process: 2 }));
    assert!(fenced(&history).is_empty(), "what was read since the gap lives on its own");
    history.facts.remove(3);
    history.facts.remove(1);
    assert!(fenced(&history).is_empty(), "nor was it heard all the time");
}

#[test]
fn copies_that_died_are_not_read_again() {
    let mut history = followed();
    history.writes.clear();
    history.facts = vec![(ms(90), Fact::WentBack), (ms(120), Fact::Renewed { tier: 0 })];
    let old = |at, from| Read { process: 2, from, ..read(at, Some(10)) };
    // A process may know the old epoch for 100 ms more.
    history.reads = vec![old(219, From::Tier), old(1_121, From::Near)];
    assert!(fenced(&history).is_empty());
    for read in [old(221, From::Tier), old(1_123, From::Near)] {
        let history = History { reads: vec![read], ..history.clone() };
        assert_eq!(fenced(&history).len(), 1);
    }
    history.reads = vec![old(230, From::Tier)];
    history.facts.push((ms(225), Fact::WentBack));
    assert!(fenced(&history).is_empty(), "it went back behind that too");
}
