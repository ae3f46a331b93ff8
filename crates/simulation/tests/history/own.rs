//! A process reads nothing older than what it wrote or was notified of.

use terrace_simulation::history::{End, Fact, From, Read, Truth, Wish, Write, fenced};

use super::*;

#[test]
fn what_a_process_wrote_is_the_oldest_that_it_may_read() {
    for truth in [Truth::Store, Truth::Origin] {
        let mut history = two_values(truth);
        history.writes.push(write(90, 110, Wish::Put(11), End::Done));
        history.reads.push(read(105, Some(10)));
        history.reads.push(read(111, Some(11)));
        assert!(fenced(&history).is_empty(), "a read under way may be older");
        history.reads.push(read(112, Some(10)));
        assert_eq!(fenced(&history).len(), 1);
    }
}

#[test]
fn other_processes_may_lag_until_they_hear_of_it() {
    let mut history = two_values(Truth::Store);
    history.writes.push(write(90, 110, Wish::Put(11), End::Done));
    history.reads.push(Read { process: 2, ..read(200, Some(10)) });
    assert!(fenced(&history).is_empty());
    history.facts.push((ms(150), Fact::Heard { process: 2, key: Some(1), since: ms(101) }));
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn an_invalidation_counts_even_where_a_tier_did_not_confirm_it() {
    for end in [End::Done, End::Partial] {
        let mut history = two_values(Truth::Origin);
        history.writes.push(write(101, 110, Wish::Invalidate, end));
        history.reads.push(read(120, None));
        history.reads.push(read(121, Some(11)));
        assert!(fenced(&history).is_empty());
        history.reads.push(read(122, Some(10)));
        assert_eq!(fenced(&history).len(), 1);
    }
}

#[test]
fn a_clear_counts_for_every_key() {
    let mut history = two_values(Truth::Origin);
    history.writes.push(Write { key: None, ..write(101, 110, Wish::Invalidate, End::Done) });
    history.reads.push(read(111, Some(10)));
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn a_put_that_failed_has_dropped_the_copies_of_a_store() {
    let mut history = two_values(Truth::Store);
    history.writes.push(write(105, 110, Wish::Put(12), End::Unknown));
    history.reads.push(read(120, Some(11)));
    assert!(fenced(&history).is_empty());
    history.reads.push(read(121, Some(10)));
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn where_nothing_interferes_a_refresh_replaces_what_there_was() {
    let mut history = two_values(Truth::Origin);
    let refresh = Read { from: From::Loader, anew: true, loads: true, ..read(110, Some(11)) };
    let old = |at| Read { from: From::Tier, ..read(at, Some(10)) };
    history.reads = vec![refresh, old(200)];
    assert!(fenced(&history).is_empty(), "another writer's copy may be in the way");
    history.calm_from = ms(105);
    assert_eq!(fenced(&history).len(), 1);
    history.reads[1] = old(150);
    assert!(fenced(&history).is_empty(), "it is filled off the caller's path");
}
