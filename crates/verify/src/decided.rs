//! Whether the checker of linearizability has decided enough keys for its silence to be a proof.

use std::fmt;

/// How many keys of a hundred may be undecided.
const MOST_UNDECIDED: u64 = 5;

/// How many keys may be undecided in any case: a run of four rounds has a handful of keys a stack, and
/// a busy host leaves many calls open at once.
const FEW: u64 = 2;

/// The keys that the checker was given, and how many of them were too hard to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) keys: u64,
    pub(crate) undecided: u64,
}

impl Decided {
    pub(crate) fn new(keys: usize, undecided: usize) -> Self {
        Self { keys: keys as u64, undecided: undecided as u64 }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.undecided += other.undecided;
    }

    /// Whether a run in which every key was to be judged decided none.
    pub(crate) fn is_nothing(self) -> bool {
        self.undecided >= self.keys
    }

    /// Whether so many keys of many runs are undecided that the runs prove nothing.
    pub(crate) fn is_too_little(self) -> bool {
        self.undecided > FEW && self.undecided * 100 > self.keys * MOST_UNDECIDED
    }

    /// What to print where too little was decided.
    pub(crate) fn complaint(self) -> Option<String> {
        self.is_too_little().then(|| {
            format!("TOO LITTLE DECIDED: {self} keys are undecided, where {MOST_UNDECIDED} % or {FEW} keys are allowed")
        })
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.undecided, self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_decided_no_key_says_nothing() {
        for (keys, undecided, nothing) in [(0, 0, true), (3, 3, true), (3, 2, false), (1, 0, false)] {
            assert_eq!(Decided::new(keys, undecided).is_nothing(), nothing, "{undecided} of {keys}");
        }
    }

    #[test]
    fn a_twentieth_or_two_keys_may_be_undecided_and_no_more() {
        for (keys, undecided, too_little) in
            [(0, 0, false), (100, 5, false), (100, 6, true), (7, 2, false), (7, 3, true)]
        {
            let decided = Decided::new(keys, undecided);
            assert_eq!(decided.is_too_little(), too_little, "{decided}");
            assert_eq!(decided.complaint().is_some(), too_little, "{decided}");
        }
    }
}
