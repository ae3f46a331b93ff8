//! Reads give what was true, and acknowledged writes happened.

use std::time::Duration;

use terrace_simulation::history::{Change, End, From, Read, Truth, Wish, bounded, fenced};

use super::*;

#[test]
fn nobody_reads_what_was_never_true_or_is_not_yet() {
    let mut history = two_values(Truth::Store);
    history.reads.push(read(50, Some(11)));
    history.reads.push(read(60, Some(99)));
    assert_eq!(fenced(&history).len(), 2);
    history.offered.push(99);
    history.reads.remove(0);
    assert_eq!(fenced(&history).len(), 1, "what no store took is no copy");
    history.reads[0].from = From::Loader;
    history.changes.insert(1, change(61, None));
    assert!(fenced(&history).is_empty(), "but its own callers get it, where a remove came first");
}

#[test]
fn a_change_of_unknown_moment_is_believed_early_and_demanded_late() {
    let mut history = two_values(Truth::Store);
    history.changes.pop();
    history.changes.push(Change { since: ms(100), ..change(200, Some(11)) });
    history.writes.push(write(150, 160, Wish::Invalidate, End::Done));
    history.reads.push(read(100, Some(11)));
    history.reads.push(read(199, Some(10)));
    assert!(fenced(&history).is_empty(), "it may have changed by then, and may have not");
    assert!(bounded(&history, Duration::ZERO).is_empty());
    history.reads.push(read(98, Some(11)));
    assert_eq!(fenced(&history).len(), 1, "not true yet");
    history.reads.pop();
    history.reads.push(read(201, Some(10)));
    assert_eq!(bounded(&history, Duration::ZERO).len(), 1, "superseded by then");
    history.writes.push(write(200, 201, Wish::Invalidate, End::Done));
    history.reads.push(read(202, Some(10)));
    assert_eq!(fenced(&history).len(), 1, "and dropped");
}

#[test]
fn an_acknowledged_write_has_happened() {
    let mut history = two_values(Truth::Store);
    history.writes.push(write(200, 210, Wish::Put(12), End::Unknown));
    assert!(fenced(&history).is_empty());
    history.writes.push(write(220, 230, Wish::Put(13), End::Done));
    history.writes.push(write(240, 250, Wish::Remove, End::Done));
    assert_eq!(fenced(&history).len(), 2);
}

#[test]
fn a_refresh_reads_the_truth_at_its_call() {
    let mut history = two_values(Truth::Origin);
    history.reads.push(Read { anew: true, from: From::Loader, ret: ms(110), ..read(99, Some(10)) });
    assert!(fenced(&history).is_empty());
    history.reads.push(Read { anew: true, from: From::Loader, ..read(101, Some(10)) });
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn an_absence_is_as_old_as_the_truth_says() {
    let mut history = two_values(Truth::Store);
    history.changes.insert(0, change(0, None));
    history.writes.push(write(90, 110, Wish::Put(11), End::Done));
    history.reads.push(read(120, None));
    assert_eq!(fenced(&history).len(), 1);
    history.changes.push(change(115, None));
    assert!(fenced(&history).is_empty());
}
