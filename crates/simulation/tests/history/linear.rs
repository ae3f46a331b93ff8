//! One linearizable register a key.

use terrace_simulation::history::{End, History, Linear, Read, Value, Wish, Write, linear};

use super::*;

pub(super) fn is_linear(reads: &[Read], writes: &[Write]) -> bool {
    let history = History { reads: reads.to_vec(), writes: writes.to_vec(), ..History::default() };
    let Linear { violations, undecided, .. } = linear(&history);
    assert!(undecided.is_empty());
    violations.is_empty()
}

pub(super) fn slow_read(call: u64, ret: u64, value: Value) -> Read {
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

/// If equals were not merged, each would double the explanations of what comes after it.
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
