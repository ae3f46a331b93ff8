//! Wrong histories that a hasty checker passes.

use std::time::Duration;

use terrace_simulation::history::{Fact, From, bounded, fenced, linear, lives};

use super::*;

/// Key 1 has 10, then 11; key 2 has 20 all along.
fn two_keys() -> History {
    let mut history = two_values(Truth::Store);
    history.changes.push(Change { key: 2, ..change(0, Some(20)) });
    history.facts.push((ms(1), Fact::Obtained { value: 20 }));
    history
}

#[test]
fn another_keys_value_is_none_of_this_key() {
    let mut history = two_keys();
    history.reads.push(Read { key: 2, ..read(50, Some(20)) });
    assert!(
        fenced(&history).is_empty() && lives(&history, Duration::from_secs(1), Duration::ZERO).is_empty()
    );
    history.reads = vec![read(50, Some(20))];
    assert_eq!(fenced(&history).len(), 1);
    assert_eq!(lives(&history, Duration::from_secs(1), Duration::ZERO).len(), 1, "whatever the level");
    assert_eq!(linear(&history).violations.len(), 1);
}

#[test]
fn a_write_happens_neither_before_its_call_nor_after_its_return() {
    for (call, ret, good) in [(90, 100, true), (100, 110, true), (90, 99, false), (101, 110, false)] {
        let mut history = two_values(Truth::Store);
        history.writes.push(write(call, ret, Wish::Put(11), End::Done));
        assert_eq!(fenced(&history).is_empty(), good, "from {call} to {ret}");
    }
}

/// The number of a value in another key's order says nothing here.
#[test]
fn another_keys_order_excuses_nobody() {
    let mut history = two_keys();
    history.changes.extend([21, 22, 23].map(|value| Change { key: 2, ..change(value, Some(value)) }));
    history.writes.push(write(90, 110, Wish::Put(11), End::Done));
    history.reads.push(read(120, Some(23)));
    assert_eq!(fenced(&history).len(), 1);
    assert!(bounded(&history, Duration::ZERO).is_empty(), "that it never was true is found by others");
}

#[test]
fn an_origin_has_no_future_either() {
    let mut history = two_values(Truth::Origin);
    history.reads.push(read(50, Some(11)));
    assert_eq!(fenced(&history).len(), 1);
    history.changes.insert(0, change(20, Some(11)));
    history.changes.sort_by_key(|change| change.at);
    assert!(fenced(&history).is_empty(), "it was true once before");
}

#[test]
fn a_tier_shows_nothing_that_never_was_true_or_is_not_yet() {
    let mut history = two_values(Truth::Store);
    history.facts.push((ms(100), Fact::Shown { tier: 0, key: 1, value: 11 }));
    assert!(fenced(&history).is_empty());
    history.offered.push(99);
    for wrong in [(ms(200), 99), (ms(98), 11)] {
        history.facts = vec![(wrong.0, Fact::Shown { tier: 0, key: 1, value: wrong.1 })];
        assert_eq!(fenced(&history).len(), 1, "{wrong:?}");
    }
}

#[test]
fn a_loader_gives_its_own_value_only_where_nothing_was() {
    let loaded = |at| Read { from: From::Loader, loads: true, ..read(at, Some(99)) };
    let mut history = two_values(Truth::Store);
    history.offered.push(99);
    history.reads.push(loaded(120));
    assert_eq!(fenced(&history).len(), 1, "there was a record, which was to be given");
    history.reads[0].joined = true;
    assert!(fenced(&history).is_empty(), "a load that began before the call");
    // A removal was under way.
    history.reads = vec![Read { call: ms(130), ret: ms(150), ..loaded(120) }];
    history.changes.push(change(140, None));
    assert!(fenced(&history).is_empty());
    history.changes.push(change(145, Some(12)));
    assert!(fenced(&history).is_empty());
    history.reads = vec![loaded(146)];
    assert_eq!(fenced(&history).len(), 1, "the next record has come");
}

#[test]
fn a_loaders_value_that_was_not_kept_says_that_nothing_was_there() {
    let put = write(10, 20, Wish::Put(1), End::Done);
    let remove = |call, ret| write(call, ret, Wish::Remove, End::Done);
    let loaded = Read { from: From::Loader, ret: ms(50), ..read(30, Some(99)) };
    let with = |writes: Vec<Write>| {
        let changes = [change(15, Some(1)), change(40, None)];
        let changes = changes[..writes.len()].to_vec();
        linear(&History { writes, changes, reads: vec![loaded], ..History::default() }).violations.len()
    };
    assert_eq!(with(vec![put]), 1);
    assert_eq!(with(vec![put, remove(35, 45)]), 0);
}

#[test]
fn what_is_marked_stale_has_an_end_too() {
    let mut history = two_values(Truth::Origin);
    history.facts.push((ms(0), Fact::Obtained { value: 10 }));
    let (life, window) = (Duration::from_millis(30), Duration::from_millis(20));
    history.reads.push(Read { stale: true, ..read(50, Some(10)) });
    assert!(lives(&history, life, window).is_empty());
    history.reads.push(Read { stale: true, ..read(51, Some(10)) });
    assert_eq!(lives(&history, life, window).len(), 1);
    history.reads = vec![read(31, Some(10))];
    assert_eq!(lives(&history, life, window).len(), 1, "one that says nothing of it is held to its life");
}

#[test]
fn what_a_process_got_at_some_moment_lives_on_from_its_last_one() {
    let mut history = two_values(Truth::Origin);
    let life = Duration::from_millis(30);
    let judge = |history: &History| lives(history, life, Duration::ZERO).len();
    history.facts = vec![
        (ms(90), Fact::ObtainedSince { value: Some(10), since: ms(20) }),
        (ms(40), Fact::ObtainedSince { value: Some(10), since: ms(30) }),
    ];
    history.reads = vec![read(19, Some(10)), read(60, Some(10)), read(120, Some(10))];
    assert_eq!(judge(&history), 0, "a read that returns at 20 ms may be answered by it");
    history.reads.push(read(121, Some(10)));
    assert_eq!(judge(&history), 1);
    history.facts.push((ms(130), Fact::ObtainedSince { value: None, since: ms(110) }));
    assert_eq!(judge(&history), 0, "it may have been this one");
}
