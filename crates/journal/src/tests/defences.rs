//! Each rule of the journal is left out once, and a checker finds it.

use terrace_tier::defence::{Defence, without};

use super::{
    faults::{faulty, one_changed_byte},
    power_loss::crash_each,
    program::Violation,
};

fn checkers() -> Result<(), Violation> {
    one_changed_byte()?;
    (0..100).try_for_each(|seed| faulty(seed).map(drop))?;
    crash_each(0.., 500, None)
}

#[test]
fn defences_that_are_left_out_are_found() {
    assert_eq!(checkers(), Ok(()));
    for defence in [
        Defence::JournalSync,
        Defence::JournalDirectorySync,
        Defence::JournalOldestFirst,
        Defence::JournalUnsynced,
        Defence::JournalEnds,
        Defence::JournalUndo,
        Defence::JournalHead,
        Defence::JournalCorrupt,
    ] {
        match without(defence, checkers) {
            Ok(()) => panic!("no checker finds that {defence:?} is left out"),
            Err(violation) => println!("without {defence:?}: {violation}"),
        }
    }
}
