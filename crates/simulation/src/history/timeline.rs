//! The truth of each key, change by change.

use std::collections::HashMap;

use super::{At, Change, History, Key};

/// The changes of every key, numbered from 1 a key; 0 is before the first, where nothing is there.
pub(super) struct Timeline {
    keys: HashMap<Key, Vec<Change>>,
    /// Under which a value was true of a key, in order.
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

    /// The number of a value, the last one until a moment at which it may have been true; `None` if it
    /// never was by then.
    pub(super) fn number(&self, key: Key, value: u64, until: At) -> Option<usize> {
        let numbers = self.numbers.get(&(key, value))?;
        numbers.iter().rev().find(|number| self.began(key, **number) <= until).copied()
    }

    /// The number under which a value was the truth for the first time.
    pub(super) fn first_number(&self, key: Key, value: u64) -> Option<usize> {
        self.numbers.get(&(key, value)).map(|numbers| numbers[0])
    }

    /// The number of what was true at a moment, as far as that is sure.
    pub(super) fn at(&self, key: Key, at: At) -> usize {
        self.of_key(key).partition_point(|change| change.at <= at)
    }

    /// The highest number under which nothing was there, up to a moment at which it may have been.
    pub(super) fn last_absence(&self, key: Key, until: At) -> usize {
        let changes = self.of_key(key);
        let changes = &changes[..changes.partition_point(|change| change.since <= until)];
        changes.iter().rposition(|change| change.value.is_none()).map_or(0, |at| at + 1)
    }

    /// Whether nothing may have been there at some moment between two.
    pub(super) fn may_be_absent(&self, key: Key, from: At, to: At) -> bool {
        self.ended(key, self.last_absence(key, to)).is_none_or(|ended| ended >= from)
    }

    /// The first moment at which a number may have been true.
    pub(super) fn began(&self, key: Key, number: usize) -> At {
        self.change(key, number).map_or(At(0), |change| change.since)
    }

    /// The moment from which a number was true for sure.
    pub(super) fn settled(&self, key: Key, number: usize) -> At {
        self.change(key, number).map_or(At(0), |change| change.at)
    }

    /// When a number was superseded for sure.
    pub(super) fn ended(&self, key: Key, number: usize) -> Option<At> {
        self.of_key(key).get(number).map(|change| change.at)
    }

    fn change(&self, key: Key, number: usize) -> Option<&Change> {
        number.checked_sub(1).and_then(|at| self.of_key(key).get(at))
    }
}
