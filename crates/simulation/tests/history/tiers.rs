//! A tier that confirmed a change shows no older value, until it goes back in time.

use terrace_simulation::history::{End, Fact, From, History, Read, Truth, Wish, fenced};

use super::*;

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
