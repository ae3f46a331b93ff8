//! `Distinct` finds the distinct keys of a batch, so that tiers and loaders get each key once.

use std::hash::Hash;

use hashbrown::{HashMap, hash_map};

/// Numbers the distinct keys of a batch in the order of their first appearance.
pub(crate) struct Distinct<Q> {
    numbers: HashMap<Q, usize>,
}

/// Whether a key of a batch appears for the first time or again.
pub(crate) enum Occurrence {
    /// The first appearance of a key, with the key's new number.
    First(usize),
    /// A repetition of the key with this number.
    Repeated(usize),
}

impl<Q: Eq + Hash> Distinct<Q> {
    pub(crate) fn new() -> Self {
        Self { numbers: HashMap::new() }
    }

    /// Adds the next key of the batch.
    pub(crate) fn add(&mut self, key: Q) -> Occurrence {
        let next = self.numbers.len();
        match self.numbers.entry(key) {
            hash_map::Entry::Occupied(known) => Occurrence::Repeated(*known.get()),
            hash_map::Entry::Vacant(new) => {
                new.insert(next);
                Occurrence::First(next)
            }
        }
    }
}
