//! The truth of each key, change by change.

use std::collections::HashMap;

use super::{At, Change, History, Key};

/// The changes of every key, numbered from 1 for each key; 0 is the absence before the first change.
pub(super) struct Timeline {
    keys: HashMap<Key, Vec<Change>>,
    /// The numbers under which a value of a key was true, in order.
    numbers: HashMap<(Key, u64), Vec<usize>>,
}

impl Timeline {
    pub(super) fn of(history: &History) -> Self {
        let mut keys: HashMap<Key, Vec<Change>> = HashMap::new();
        let mut numbers: HashMap<_, Vec<usize>> = HashMap::with_capacity(history.changes.len());
        for change in &history.changes {
            let key = keys.entry(change.key).or_default();
            key.push(*change);
            if let Some(value) = change.value {
                numbers.entry((change.key, value)).or_default().push(key.len());
            }
        }
        Self { keys, numbers }
    }

    pub(super) fn of_key(&self, key: Key) -> &[Change] {
        self.keys.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The last number of a value under which it may have been true until a moment; `None` if it never was
    /// true by then.
    pub(super) fn number(&self, key: Key, value: u64, until: At) -> Option<usize> {
        let numbers = self.numbers.get(&(key, value))?;
        numbers.iter().rev().find(|number| self.began(key, **number) <= until).copied()
    }

    /// The number under which a value was the truth for the first time.
    pub(super) fn first_number(&self, key: Key, value: u64) -> Option<usize> {
        self.numbers.get(&(key, value)).map(|numbers| numbers[0])
    }

    /// The highest number that was surely true at a moment.
    pub(super) fn at(&self, key: Key, at: At) -> usize {
        self.of_key(key).partition_point(|change| change.at <= at)
    }

    /// The highest number of an absence that may have been true up to a moment.
    pub(super) fn last_absence(&self, key: Key, until: At) -> usize {
        let changes = self.of_key(key);
        let changes = &changes[..changes.partition_point(|change| change.since <= until)];
        changes.iter().rposition(|change| change.value.is_none()).map_or(0, |at| at + 1)
    }

    /// Whether an absence may have been true at some moment between two.
    pub(super) fn may_be_absent(&self, key: Key, from: At, to: At) -> bool {
        self.ended(key, self.last_absence(key, to)).is_none_or(|ended| ended >= from)
    }

    /// The first moment at which a number may have been true.
    pub(super) fn began(&self, key: Key, number: usize) -> At {
        self.change(key, number).map_or(At(0), |change| change.since)
    }

    /// The moment from which a number was surely true.
    pub(super) fn settled(&self, key: Key, number: usize) -> At {
        self.change(key, number).map_or(At(0), |change| change.at)
    }

    /// The moment from which a number was surely superseded.
    pub(super) fn ended(&self, key: Key, number: usize) -> Option<At> {
        self.of_key(key).get(number).map(|change| change.at)
    }

    fn change(&self, key: Key, number: usize) -> Option<&Change> {
        number.checked_sub(1).and_then(|at| self.of_key(key).get(at))
    }
}
