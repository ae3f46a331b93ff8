//! The checkers against histories written by hand: some must pass, and the same with one thing
//! wrong must fail.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use terrace_conformance::history::{
    At, Change, End, Fact, From, History, Linear, Newness, Read, Truth, Value, Wish, Write, bounded, fenced,
    linear, lives,
};

fn ms(millis: u64) -> At {
    At(millis * 1_000_000)
}

/// Process 1 reads key 1 from its near tier in one millisecond.
fn read(at: u64, value: Value) -> Read {
    let (call, ret) = (ms(at), ms(at + 1));
    let (from, joined, stale, anew, loads) = (From::Near, false, false, false, false);
    Read { process: 1, key: 1, call, ret, value, from, joined, stale, anew, loads, asked: Newness::Built }
}

/// Process 1 writes key 1.
fn write(call: u64, ret: u64, wish: Wish, end: End) -> Write {
    Write { process: 1, key: Some(1), call: ms(call), ret: Some((ms(ret), end)), wish }
}

fn change(at: u64, value: Value) -> Change {
    Change::exact(1, ms(at), value)
}

/// Value 10 from the start, 11 from 100 ms on.
fn two_values(truth: Truth) -> History {
    let changes = vec![change(0, Some(10)), change(100, Some(11))];
    History { truth, tiers: 1, changes, ..History::default() }
}

fn confirmed(at: u64, tier: usize, process: u32) -> (At, Fact) {
    (ms(at), Fact::Confirmed { tier, process, key: Some(1), put: false, covers: None })
}

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
fn beyond_near_nobody_reads_what_every_tier_confirmed_to_be_old() {
    let mut history = two_values(Truth::Origin);
    history.writes.push(write(101, 110, Wish::Invalidate, End::Done));
    let other = |at, from, joined| Read { process: 2, from, joined, ..read(at, Some(10)) };
    history.reads.push(other(120, From::Tier, false));
    assert!(fenced(&history).is_empty(), "the tier had not confirmed it");
    history.facts.push(confirmed(105, 0, 1));
    assert_eq!(fenced(&history).len(), 1);
    history.reads.clear();
    history.reads.extend([other(120, From::Near, false), other(120, From::Tier, true)]);
    assert!(fenced(&history).is_empty(), "near lags, and a trip may have begun before");
}

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
    history.reads = vec![old(119, From::Tier), old(1_121, From::Near)];
    assert!(fenced(&history).is_empty());
    for read in [old(121, From::Tier), old(1_123, From::Near)] {
        let history = History { reads: vec![read], ..history.clone() };
        assert_eq!(fenced(&history).len(), 1);
    }
    history.reads = vec![old(130, From::Tier)];
    history.facts.push((ms(125), Fact::WentBack));
    assert!(fenced(&history).is_empty(), "it went back behind that too");
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

#[test]
fn a_confirmation_of_something_older_confirms_nothing() {
    let mut history = two_values(Truth::Store);
    history.writes.push(write(90, 110, Wish::Put(11), End::Done));
    history.reads.push(Read { process: 2, from: From::Tier, ..read(120, Some(10)) });
    let put = |covers| (ms(105), Fact::Confirmed { tier: 0, process: 1, key: Some(1), put: true, covers });
    history.facts = vec![put(Some(ms(0)))];
    assert!(fenced(&history).is_empty(), "it was of a fill that outdated another");
    history.facts = vec![put(Some(ms(100)))];
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn a_tier_that_confirmed_shows_nothing_older() {
    let mut history = two_values(Truth::Origin);
    history.writes.push(write(101, 110, Wish::Invalidate, End::Done));
    history.facts.push(confirmed(105, 0, 1));
    history.facts.push((ms(109), Fact::Shown { tier: 0, key: 1, value: 10 }));
    history.facts.push((ms(130), Fact::Shown { tier: 0, key: 1, value: 11 }));
    assert!(fenced(&history).is_empty());
    history.facts.push((ms(140), Fact::Shown { tier: 0, key: 1, value: 10 }));
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn a_farther_tier_that_did_not_confirm_may_bring_the_old_nearer() {
    let mut history = History { tiers: 2, ..two_values(Truth::Origin) };
    history.writes.push(write(101, 110, Wish::Invalidate, End::Partial));
    history.facts.push(confirmed(105, 0, 1));
    history.facts.push((ms(140), Fact::Shown { tier: 0, key: 1, value: 10 }));
    assert!(fenced(&history).is_empty());
    history.facts.insert(0, confirmed(104, 1, 1));
    assert_eq!(fenced(&history).len(), 1);
}

#[test]
fn a_confirmation_that_may_be_of_another_write_counts_for_none() {
    let mut history = two_values(Truth::Origin);
    history.writes.push(write(101, 110, Wish::Invalidate, End::Done));
    history.writes.push(write(102, 112, Wish::Invalidate, End::Partial));
    history.facts.push(confirmed(105, 0, 1));
    history.facts.push((ms(140), Fact::Shown { tier: 0, key: 1, value: 10 }));
    assert!(fenced(&history).is_empty());
}

#[test]
fn a_tier_that_goes_back_voids_what_was_promised_before() {
    let mut history = two_values(Truth::Origin);
    history.writes.push(write(101, 110, Wish::Invalidate, End::Done));
    history.facts.push((ms(115), Fact::WentBack));
    history.reads.push(read(120, Some(10)));
    assert!(fenced(&history).is_empty());
    history.writes.push(write(130, 131, Wish::Invalidate, End::Done));
    history.reads.push(read(140, Some(10)));
    assert_eq!(fenced(&history).len(), 1, "but not what is promised afterwards");
}

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
    assert!(fenced(&history).is_empty(), "but its own callers get it");
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

#[test]
fn staleness_is_counted_from_the_moment_of_the_next_change_to_the_call() {
    let mut history = two_values(Truth::Store);
    history.reads.push(read(150, Some(10)));
    assert!(bounded(&history, Duration::from_millis(50)).is_empty());
    assert_eq!(bounded(&history, Duration::from_millis(49)).len(), 1);
    history.reads[0].stale = true;
    assert!(bounded(&history, Duration::from_millis(49)).is_empty(), "it was marked");
}

#[test]
fn a_copy_is_served_for_its_life_from_the_last_time_it_was_obtained() {
    let mut history = two_values(Truth::Origin);
    let life = Duration::from_millis(30);
    history.reads.push(read(50, Some(10)));
    assert_eq!(lives(&history, life).len(), 1, "nobody obtained it");
    history.facts.push((ms(20), Fact::Obtained { value: 10 }));
    assert!(lives(&history, life).is_empty());
    history.reads.push(read(51, Some(10)));
    assert_eq!(lives(&history, life).len(), 1);
    history.facts.push((ms(40), Fact::Extended { key: 1, until: ms(60) }));
    assert!(lives(&history, life).is_empty());
}

/// Each would double the ways to explain what comes after it, were they not alike.
#[test]
fn a_crowd_of_open_reads_and_removals_of_unknown_end_is_decided() {
    let put = write(1, 10, Wish::Put(1), End::Done);
    let removals = (0..40).map(|at| write(20 + at, 21 + at, Wish::Remove, End::Unknown));
    let writes: Vec<Write> = [put].into_iter().chain(removals).collect();
    let reads: Vec<Read> =
        (0..60).map(|at| slow_read(100 + at, 400 - at, (at % 2 == 0).then_some(1))).collect();
    assert!(is_linear(&reads, &writes), "the removals may all come in the middle");
    let again = slow_read(500, 501, Some(2));
    assert!(!is_linear(&[reads, vec![again]].concat(), &writes), "nobody put that");
}

fn is_linear(reads: &[Read], writes: &[Write]) -> bool {
    let history = History { reads: reads.to_vec(), writes: writes.to_vec(), ..History::default() };
    let Linear { violations, undecided, .. } = linear(&history);
    assert!(undecided.is_empty());
    violations.is_empty()
}

fn slow_read(call: u64, ret: u64, value: Value) -> Read {
    Read { ret: ms(ret), ..read(call, value) }
}

#[test]
fn a_register_takes_effect_between_call_and_return() {
    let put = write(10, 20, Wish::Put(1), End::Done);
    assert!(is_linear(&[slow_read(5, 12, None), slow_read(15, 16, Some(1))], &[put]));
    assert!(!is_linear(&[slow_read(21, 22, None)], &[put]), "a stale read");
    assert!(!is_linear(&[slow_read(5, 9, Some(1))], &[put]), "a read of the future");
    let back = [slow_read(11, 12, Some(1)), slow_read(13, 14, None)];
    assert!(!is_linear(&back, &[put]), "two reads that go back");
}

#[test]
fn a_write_of_unknown_end_may_happen_late_or_never() {
    let put = write(10, 20, Wish::Put(1), End::Unknown);
    assert!(is_linear(&[slow_read(30, 31, None), slow_read(40, 41, Some(1))], &[put]));
    assert!(is_linear(&[slow_read(30, 31, None)], &[put]));
    let twice = [slow_read(30, 31, Some(1)), slow_read(40, 41, None), slow_read(50, 51, Some(1))];
    assert!(!is_linear(&twice, &[put]), "but not twice");
    assert!(!is_linear(&[slow_read(30, 31, Some(1))], &[write(10, 20, Wish::Put(1), End::Failed)]));
}

#[test]
fn conditions_hold_at_the_moment_of_effect() {
    let put = write(0, 1, Wish::Put(1), End::Done);
    let absent = |end| write(10, 11, Wish::PutIfAbsent(2), end);
    assert!(is_linear(&[], &[put, absent(End::Refused)]));
    assert!(!is_linear(&[], &[put, absent(End::Done)]));
    let replace = |seen, end| write(20, 21, Wish::Replace(seen, 3), end);
    assert!(is_linear(&[slow_read(30, 31, Some(3))], &[put, replace(1, End::Done)]));
    assert!(!is_linear(&[], &[put, replace(9, End::Done)]));
    assert!(!is_linear(&[], &[put, replace(1, End::Refused)]));
    let both = [replace(1, End::Done), write(20, 22, Wish::Replace(1, 4), End::Done)];
    assert!(!is_linear(&[], &[put, both[0], both[1]]), "two winners");
}

/// A brute force to compare with: tries all orders.
mod brute {
    use super::*;

    type Op = (u64, u64, Result<Value, Wish>, Option<bool>);

    fn apply(now: Value, op: &Op) -> Option<Value> {
        let (holds, then) = match op.2 {
            Ok(value) => return (value == now).then_some(now),
            Err(Wish::Put(value)) => (true, Some(value)),
            Err(Wish::PutIfAbsent(value) | Wish::Create(value)) => (now.is_none(), Some(value)),
            Err(Wish::Replace(seen, value)) => (now == Some(seen), Some(value)),
            Err(Wish::Remove | Wish::Invalidate) => (true, None),
        };
        op.3.is_none_or(|held| held == holds).then_some(if holds { then } else { now })
    }

    fn explains(now: Value, left: &[Op]) -> bool {
        let first_return = left.iter().map(|op| op.1).min().unwrap_or(u64::MAX);
        if left.iter().all(|op| op.1 == u64::MAX) {
            return true;
        }
        (0..left.len()).any(|at| {
            let rest: Vec<Op> =
                left.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, op)| *op).collect();
            left[at].0 <= first_return && apply(now, &left[at]).is_some_and(|then| explains(then, &rest))
        })
    }

    fn random(rng: &mut fastrand::Rng) -> (Vec<Read>, Vec<Write>, Vec<Op>) {
        let (mut reads, mut writes, mut ops) = (vec![], vec![], vec![]);
        for number in 0..rng.u64(2..=6) {
            let call = rng.u64(..40);
            let ret = call + 1 + rng.u64(..20);
            let value = rng.u64(..6);
            if rng.bool() {
                let value = (value > 0).then_some(value);
                reads.push(slow_read(call, ret, value));
                ops.push((call, ret, Ok(value), None));
                continue;
            }
            let wish = match rng.u8(..5) {
                0 => Wish::Remove,
                1 => Wish::PutIfAbsent(number + 1),
                2 => Wish::Replace(value, number + 1),
                _ => Wish::Put(number + 1),
            };
            let end = match rng.u8(..4) {
                0 => End::Unknown,
                1 if matches!(wish, Wish::PutIfAbsent(_) | Wish::Replace(..)) => End::Refused,
                _ => End::Done,
            };
            writes.push(write(call, ret, wish, end));
            let ends = if end == End::Unknown { u64::MAX } else { ret };
            ops.push((call, ends, Err(wish), (end != End::Unknown).then_some(end == End::Done)));
        }
        (reads, writes, ops)
    }

    #[test]
    fn linear_agrees_with_trying_every_order() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut yes, mut no) = (0, 0);
        for case in 0..20_000 {
            let (reads, writes, ops) = random(&mut rng);
            let expected = explains(None, &ops);
            assert_eq!(is_linear(&reads, &writes), expected, "case {case}: {ops:?}");
            *(if expected { &mut yes } else { &mut no }) += 1;
        }
        assert!(yes > 1_000 && no > 1_000, "{yes} and {no}: both kinds must be met");
    }
}
