//! A batch on its way: which of its keys are still open, and the answers so far.

use std::{
    collections::{HashMap, hash_map},
    hash::Hash,
};

use super::{
    looked::{CacheTicket, Missed, Seen},
    many::Many,
};
use crate::{Cached, Result};

/// One key of a batch that near could not answer for.
pub(super) struct Wanted<V> {
    pub(super) index: usize,
    pub(super) stale: Seen<V>,
}

/// And the flight that it boarded.
pub(super) struct Boarded<K: Eq + Hash, V> {
    pub(super) wanted: Wanted<V>,
    pub(super) ticket: CacheTicket<K, V>,
}

/// And what its lookup did not find.
pub(super) struct Unfound<K: Eq + Hash, V> {
    pub(super) index: usize,
    pub(super) ticket: CacheTicket<K, V>,
    pub(super) missed: Missed<V>,
    /// The load that it saw panic, else 0.
    pub(super) panicked: u8,
}

/// The answers of a batch while they come in.
pub(super) struct Answers<V> {
    pub(super) by_index: Vec<Option<Result<Option<Cached<V>>>>>,
    /// Stale ones that were served, and are to be loaded anew.
    pub(super) renewed: Vec<usize>,
}

impl<V> Answers<V> {
    /// None yet, of so many keys.
    pub(super) fn new(keys: usize) -> Self {
        Self { by_index: (0..keys).map(|_| None).collect(), renewed: Vec::new() }
    }

    /// What the caller gets; twins get the answers of their firsts.
    pub(super) fn into_many(mut self, twins: Vec<Twin>) -> Many<V> {
        for Twin { index, first } in twins {
            self.by_index[index] = self.by_index[first].clone();
        }
        Many(self.by_index.into_iter().map(|answer| answer.unwrap_or(Ok(None))).collect())
    }
}

/// Where a key stands again.
pub(super) struct Twin {
    index: usize,
    first: usize,
}

/// The keys of a batch that were seen so far: tiers and loaders are asked for each once.
pub(super) struct Distinct<'a, K> {
    firsts: HashMap<&'a K, usize>,
    twins: Vec<Twin>,
}

impl<'a, K: Eq + Hash> Distinct<'a, K> {
    pub(super) fn new() -> Self {
        Self { firsts: HashMap::new(), twins: Vec::new() }
    }

    /// Whether the key stands here for the first time; else it is a twin.
    pub(super) fn is_first(&mut self, index: usize, key: &'a K) -> bool {
        match self.firsts.entry(key) {
            hash_map::Entry::Occupied(first) => {
                self.twins.push(Twin { index, first: *first.get() });
                false
            }
            hash_map::Entry::Vacant(first) => {
                first.insert(index);
                true
            }
        }
    }

    pub(super) fn into_twins(self) -> Vec<Twin> {
        self.twins
    }
}
