//! The checkers on histories written by hand: some must pass, and the same histories with one wrong
//! fact must fail.

mod bounded;
mod linear;
mod lives;
mod near;
mod orders;
mod own;
mod tiers;
mod truth;
mod wrong;

use terrace_simulation::history::{At, Change, End, Fact, From, History, Read, Truth, Value, Wish, Write};

fn ms(millis: u64) -> At {
    At(millis * 1_000_000)
}

/// Process 1 reads key 1 from its near tier in one millisecond.
fn read(at: u64, value: Value) -> Read {
    Read::plain(1, 1, (ms(at), ms(at + 1)), value, From::Near)
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
